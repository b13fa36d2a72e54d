"""Tables: what params ask for, what scores say, what the papers published, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tabulate import tabulate

from onetok.claims import claim_lines
from onetok.errors import OnetokError
from onetok.metrics import names
from onetok.params import (
    AutoregressiveSampling,
    Column,
    GenerationBenchmark,
    Guidance,
    LatentSampling,
    Row,
    SampledBenchmark,
    Samples,
    Sampling,
    Study,
    Table,
    TextToImageBenchmark,
)

NOT_MEASURED = "not measured"
DOES_NOT_APPLY = "–"
BETTER = {"higher": " ↑", "lower": " ↓", "neither": ""}


def read_scores(row: Row, folder: Path) -> dict[str, float | None] | None:
    """Return the scores that a row names, or None for a row that names none."""
    if row.tokenizer is None and row.samples is None:
        return None
    kind, name = ("reconstruction", row.tokenizer) if row.tokenizer else ("samples", row.samples)
    path = folder / "scores" / kind / str(name) / "scores.json"
    scores: dict[str, float | None] = json.loads(path.read_text())
    return scores


def table_frame(table: Table, results: Path) -> pd.DataFrame:
    """Return one row a system: its label, then for each metric the measured and, where any row has one, the
    published figure, at full precision; NaN where there is none."""
    records = []
    for row in table.rows:
        scores = read_scores(row, results)
        record: dict[str, Any] = {"label": row.label}
        for column in table.columns:
            if scores is not None and column.metric not in scores:
                raise OnetokError(f"table row {row.label!r}: its scores hold no {column.metric!r}")
            value = None if scores is None else scores[column.metric]
            record[column.metric] = math.nan if value is None else value
            if _is_published(table, column):
                figures = row.published.figures if row.published else {}
                record[f"{column.metric}_published"] = figures.get(column.metric, math.nan)
        records.append(record)
    return pd.DataFrame.from_records(records)


def _is_published(table: Table, column: Column) -> bool:
    return any(row.published and column.metric in row.published.figures for row in table.rows)


class Rendered(NamedTuple):
    csv: str
    markdown: str
    latex: str


def render(table: Table, frame: pd.DataFrame, protocol: list[str]) -> Rendered:
    """Return a table in three formats, its notes and protocol below."""
    headers, cells = _cells(table, frame)
    align = ["left", *["right"] * (len(headers) - 1)]
    text = tabulate(cells, headers, tablefmt="github", colalign=align, disable_numparse=True)
    notes = [table.note, *claim_lines(table, frame), *_sources(table), *protocol]
    markdown = "\n".join([f"### {table.title}", "", text, "", *(f"- {note}" for note in notes if note), ""])
    plain = [header.replace("↑", r"UP").replace("↓", r"DOWN") for header in headers]
    body = tabulate(cells, plain, tablefmt="latex_booktabs", colalign=align, disable_numparse=True)
    body = body.replace("UP", r"$\uparrow$").replace("DOWN", r"$\downarrow$")
    comments = [f"% {note}" for note in (table.title, *notes) if note]
    return Rendered(
        frame.to_csv(index=False, lineterminator="\n"), markdown, "\n".join([*comments, body, ""])
    )


def _cells(table: Table, frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    headers, columns = [""], [list(frame["label"])]
    for column in table.columns:
        headers.append(f"{column.label}{BETTER[column.better]}")
        cells = zip(table.rows, frame[column.metric], strict=True)
        columns.append([_cell(value, column, _absent(row)) for row, value in cells])
        if f"{column.metric}_published" in frame:
            headers.append(f"{column.label}, published")
            columns.append([_cell(value, column, "") for value in frame[f"{column.metric}_published"]])
    return headers, [list(row) for row in zip(*columns, strict=True)]


def _absent(row: Row) -> str:
    return DOES_NOT_APPLY if row.tokenizer or row.samples else NOT_MEASURED


def _cell(value: float, column: Column, absent: str) -> str:
    return absent if math.isnan(value) else f"{value:.{column.decimals}f}"


def _sources(table: Table) -> Iterator[str]:
    sources = {row.published.source: row.label for row in table.rows if row.published}
    if sources:
        yield f"Published: {'; '.join(sources)}."


def protocol(study: Study, table: Table) -> list[str]:
    """Return, line by line, how the figures of a table came about."""
    lines: dict[str, None] = {}
    for row in table.rows:
        if row.tokenizer:
            lines[_benchmark_line(study, study.tokenizers[row.tokenizer].benchmark)] = None
        if row.samples:
            lines[_benchmark_line(study, study.samples[row.samples].benchmark)] = None
    for row in table.rows:
        if row.samples:
            lines[f"{row.label}: {_sampling(study.samples[row.samples])}."] = None
    kinds = (names.GENERATION, names.RECONSTRUCTION)  # where a name has two meanings, that of the rows counts
    first, second = kinds if any(row.tokenizer for row in table.rows) else kinds[::-1]
    known = {**first, **second}
    legend = [f"{column.label}: {known[column.metric]}" for column in table.columns]
    return [*lines, f"Columns: {'; '.join(legend)}."]


def _benchmark_line(study: Study, name: str) -> str:
    benchmark = study.benchmarks[name]
    common = f"features by {benchmark.encoder}, judge {benchmark.judge}; {benchmark.images}; images rounded to 8 bits"
    if isinstance(benchmark, SampledBenchmark):
        evenly = "classes" if isinstance(benchmark, GenerationBenchmark) else "captions"
        scope = f"{benchmark.samples} samples, {evenly} evenly, against {benchmark.dataset} {benchmark.split}"
        details = (
            f"inception score over {benchmark.inception_splits} unshuffled splits, k = {benchmark.neighbours}"
        )
        if isinstance(benchmark, TextToImageBenchmark):
            details += f"; CLIP score by {benchmark.clip}, geneval by {benchmark.detector or 'no detector'}"
        return f"Protocol {name}: {scope}; {common}; {details}."
    scope = f"reconstructions of {benchmark.dataset} {benchmark.split} against these images"
    if benchmark.captions is not None:
        seed = benchmark.captions.shuffle_seed
        common += (
            f"; geneval by {benchmark.captions.detector or 'no detector'}, captions shuffled by seed {seed}"
        )
    return f"Protocol {name}: {scope}; {common}."


def _sampling(samples: Samples) -> str:
    text = samples.text
    told = f", {text.captions} captions, aesthetic score {text.aesthetic:g}" if text is not None else ""
    return f"{_settings(samples.sampling)}{told}, seed {samples.seed}"


def _settings(sampling: Sampling) -> str:
    guidance = sampling.guidance
    guided = f"temperature {sampling.temperature:g}, {guidance.kind} guidance {guidance.scale:g}"
    if isinstance(guidance, Guidance) and "cosine" in guidance.kind:
        guided += f", power {guidance.power:g}"
    match sampling:
        case AutoregressiveSampling():
            return f"one token a step, {guided}"
        case LatentSampling():
            rounds = f"{sampling.rounds} rounds of {sampling.diffusion_steps} diffusion steps"
            clipped = f", predictions clipped at {sampling.clip:g}" if sampling.clip is not None else ""
            return f"{rounds}{clipped}, {guided}, {sampling.mask_schedule} schedule"
    annealing = ", softmax annealing" if sampling.softmax_annealing else ""
    return f"{sampling.steps} steps, {guided}, {sampling.mask_schedule} schedule{annealing}"
