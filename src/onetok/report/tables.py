"""Tables of measured scores and published figures, in the rows and columns that params define."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tabulate import tabulate

from onetok.errors import OnetokError
from onetok.report.markup import latex_rows, markdown_table, markdown_text, one_line
from onetok.study import metric_names
from onetok.study.schema.benchmarks import (
    CaptionBenchmark,
    GenerationBenchmark,
    PosteriorMean,
    Reference,
    SampledBenchmark,
    TextToImageBenchmark,
)
from onetok.study.schema.datasets import DigitsSource, ImageFolderSource
from onetok.study.schema.study import Samples, Study
from onetok.study.schema.tables import Column, PublishedFigure, Row, Table

NOT_MEASURED = "not measured"  # by any system of the study
NOT_MADE = "not made"  # and could be
DOES_NOT_APPLY = "–"
NO_JAVA = "not computed: Java"
NO_NUMBER = "NaN"
FRECHET = ("fid", "rfid", "rfid_shuffled")
BETTER = {"higher": " ↑", "lower": " ↓", "neither": ""}


def read_scores(row: Row, folder: Path) -> dict[str, float | None] | None:
    """Return the scores of the tokenizer, samples or captions of a row, or None for a row that has none of them."""
    named = {"reconstruction": row.tokenizer, "samples": row.samples, "captions": row.captions}
    found = [(kind, name) for kind, name in named.items() if name is not None]
    if not found:
        return None
    kind, name = found[0]
    path = folder / "scores" / kind / name / "scores.json"
    scores: dict[str, float | None] = json.loads(path.read_text(encoding="utf-8"))
    return scores


def frame_columns(table: Table) -> list[str]:
    """Return the names of the columns that `table_frame` gives a table."""
    names = ["label"]
    for column in table.columns:
        names.append(column.metric)
        if _is_published(table, column):
            names.append(f"{column.metric}_published")
    return names


def table_frame(table: Table, results: Path, not_made: Collection[str] = ()) -> pd.DataFrame:
    """Return the figures of a table at full precision, one row for each of its rows.

    Rows labelled `not_made` get no scores.

    Columns are `label`, each metric and, if any row has a published figure of it, `<metric>_published`. A cell is NaN
    where there is no figure, and the text "NaN" for a score that was computed and is not a number.

    Raises OnetokError for a metric that the scores of a row do not have.
    """
    records = []
    for row in table.rows:
        scores = read_scores(row, results) if row.label not in not_made else None
        record: dict[str, Any] = {"label": row.label}
        for column in table.columns:
            if scores is not None and column.metric not in scores:
                raise OnetokError(f"table row {row.label!r}: its scores hold no {column.metric!r}")
            value = None if scores is None else scores[column.metric]
            # A score that is not a number becomes text, because NaN means that there is no score.
            record[column.metric] = (
                math.nan if value is None else value if math.isfinite(value) else NO_NUMBER
            )
            if _is_published(table, column):
                figure = _published(row, column)
                record[f"{column.metric}_published"] = math.nan if figure is None else figure.value
        records.append(record)
    return pd.DataFrame.from_records(records, columns=frame_columns(table))


def _published(row: Row, column: Column) -> PublishedFigure | None:
    figures = row.published.figures if row.published else {}
    return figures.get(column.metric)


def _is_published(table: Table, column: Column) -> bool:
    return any(_published(row, column) for row in table.rows)


class Rendered(NamedTuple):
    """A table in three formats."""

    csv: str
    markdown: str
    latex: str


def render(
    table: Table,
    frame: pd.DataFrame,
    notes: list[str],
    shown: Mapping[tuple[str, str], str] | None = None,
    not_made: Collection[str] = (),
) -> Rendered:
    """Return a table in three formats, with its sources and `notes` below it.

    `shown` replaces figures of the frame by texts, by label and metric. Rows labelled `not_made` say so.
    """
    headers, cells = _cells(table, frame, shown or {}, not_made)
    if not_made:
        notes = [
            f"Not made: {'; '.join(not_made)}. These rows have to be trained; other rows are complete.",
            *notes,
        ]
    align = ["left", *["right"] * (len(headers) - 1)]
    notes = [note for note in (table.note, *_source_lines(table), *notes) if note]
    body = tabulate(
        [[one_line(cell) for cell in row] for row in cells],
        [one_line(header) for header in headers],
        tablefmt="latex_booktabs",
        colalign=align,
        disable_numparse=True,
    )
    comments = [f"% {one_line(note)}" for note in (table.title, *notes)]
    return Rendered(
        frame.to_csv(index=False, lineterminator="\n"),
        markdown_table(table.title, headers, cells, align, [markdown_text(note) for note in notes]),
        "\n".join([*comments, latex_rows(body), ""]),
    )


def _cells(
    table: Table, frame: pd.DataFrame, shown: Mapping[tuple[str, str], str], not_made: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    headers, columns, sources = [""], [list(frame["label"])], _sources(table)
    for column in table.columns:
        headers.append(f"{column.label}{BETTER[column.better]}")
        cells = zip(table.rows, frame[column.metric], strict=True)
        columns.append(
            [
                shown[row.label, column.metric]
                if (row.label, column.metric) in shown
                else _cell(value, column, NOT_MADE if row.label in not_made else _absent(row, column))
                for row, value in cells
            ]
        )
        if f"{column.metric}_published" in frame:
            headers.append(f"{column.label}, published")
            columns.append([_published_cell(row, column, sources) for row in table.rows])
    return headers, [list(row) for row in zip(*columns, strict=True)]


def _absent(row: Row, column: Column) -> str:
    if row.captions and metric_names.family(column.metric) in metric_names.JAVA:
        return NO_JAVA
    return DOES_NOT_APPLY if row.tokenizer or row.samples or row.captions else NOT_MEASURED


def _cell(value: float | str, column: Column, absent: str) -> str:
    if isinstance(value, str):
        return value
    return absent if math.isnan(value) else f"{value:.{column.decimals}f}"


def _published_cell(row: Row, column: Column, sources: list[str]) -> str:
    """Return a published figure with the number of its source in brackets, empty if there is none."""
    figure = _published(row, column)
    if figure is None:
        return ""
    mark = f"{sources.index(figure.source) + 1}{', unverified' if figure.unverified else ''}"
    return f"{_cell(figure.value, column, '')} [{mark}]"


def _sources(table: Table) -> list[str]:
    """Return the sources of published figures without repetition, in the order of rows and columns."""
    figures = (_published(row, column) for row in table.rows for column in table.columns)
    return list(dict.fromkeys(figure.source for figure in figures if figure))


def _source_lines(table: Table) -> Iterator[str]:
    sources = [f"[{number}] {source}" for number, source in enumerate(_sources(table), start=1)]
    if sources:
        yield f"Published: {'; '.join(sources)}."
    figures = [_published(row, column) for row in table.rows for column in table.columns]
    if any(figure and figure.unverified for figure in figures):
        yield "Unverified: of one secondary source, a plot or memory alone; no primary source was read."


def protocol(study: Study, table: Table, not_made: Collection[str] = ()) -> list[str]:
    """Return the notes on how the figures of a table were measured: benchmarks, sampling, definitions of columns."""
    meanings = "; ".join(f"{label}: {text}" for label, text in legend(table).items())
    return [*measured_by(study, table, not_made), f"Columns: {meanings}."]


def measured_by(study: Study, table: Table, not_made: Collection[str] = ()) -> list[str]:
    """Return the benchmarks and the sampling settings behind the rows of a table, a line for each."""
    lines: dict[str, None] = {}
    rows = [row for row in table.rows if row.label not in not_made]
    for row in rows:
        if row.tokenizer:
            lines[_benchmark_line(study, study.tokenizers[row.tokenizer].benchmark)] = None
        if row.samples:
            lines[_benchmark_line(study, study.samples[row.samples].benchmark)] = None
        if row.captions:
            lines[_caption_line(study, study.captions[row.captions].benchmark)] = None
    for row in rows:
        if row.samples:
            lines[f"{row.label}: {_sampling(study.samples[row.samples])}."] = None
        if row.captions:
            captions = study.captions[row.captions]
            lines[f"{row.label}: {captions.sampling.summary()}, seed {captions.seed}."] = None
    return list(lines)


def legend(table: Table) -> dict[str, str]:
    """Return what the columns of a table mean, by label."""
    # Some names have a meaning in both; the meaning of the table's rows has precedence.
    kinds = [metric_names.CAPTIONING, metric_names.GENERATION, metric_names.RECONSTRUCTION]
    shown = ("captions", "samples", "tokenizer")
    order = sorted(range(3), key=lambda kind: any(getattr(row, shown[kind]) for row in table.rows))
    known = {name: text for kind in order for name, text in kinds[kind].items()}
    return {column.label: known[column.metric] for column in table.columns}


def _benchmark_line(study: Study, name: str) -> str:
    benchmark = study.benchmarks[name]
    assert isinstance(benchmark, Reference)
    reference = f"{benchmark.reference_images} images of {benchmark.dataset} {benchmark.split}"
    networks = f"features by {benchmark.encoder}, second network {benchmark.second_encoder}"
    common = f"{networks}; {benchmark.images}; {_splits(benchmark)}"
    if isinstance(benchmark, SampledBenchmark):
        evenly = "classes" if isinstance(benchmark, GenerationBenchmark) else "captions"
        if isinstance(benchmark, GenerationBenchmark) and benchmark.statistics is not None:
            reference = f"the published statistics {benchmark.statistics.file}"
        scope = f"{benchmark.samples} samples, {evenly} evenly, against {reference}"
        details = (
            f"samples {benchmark.eight_bits} to 8 bits, k = {benchmark.neighbours}; blank where no channel's"
            f" standard deviation exceeds {benchmark.blank_deviation:g} of 255 levels"
        )
        if isinstance(benchmark, TextToImageBenchmark):
            details += f"; CLIP score by {benchmark.clip}, geneval by {benchmark.detector or 'no detector'}"
        return f"Protocol {name}: {scope}; {common}; {details}."
    scope = f"reconstructions of {reference} against these images"
    posterior = benchmark.posterior
    drawn = "mean" if isinstance(posterior, PosteriorMean) else f"sample of seed {posterior.seed}"
    common += f"; reconstructions rounded to 8 bits; of a KL tokenizer's posterior the {drawn}"
    source = study.datasets[benchmark.dataset].source
    if isinstance(source, DigitsSource | ImageFolderSource) and source.caption is not None:
        common += f'; captions of images that have none "{source.caption}"'
        if isinstance(source, ImageFolderSource):
            common += f", class names {source.class_names}"
    if benchmark.captions is not None:
        seed = benchmark.captions.shuffle_seed
        common += (
            f"; geneval by {benchmark.captions.detector or 'no detector'}, captions shuffled by seed {seed}"
        )
    return f"Protocol {name}: {scope}; {common}."


def _caption_line(study: Study, name: str) -> str:
    benchmark = study.benchmarks[name]
    assert isinstance(benchmark, CaptionBenchmark)
    against = f"captions of {benchmark.reference_images} images of {benchmark.dataset} {benchmark.split}"
    return (
        f"Protocol {name}: one caption an image, against the dataset's own {against}; {benchmark.images}; words are"
        " runs of letters and digits in lower case; random captions of the train split by seed"
        f" {benchmark.random_seed}."
    )


def _splits(benchmark: Reference) -> str:
    if benchmark.inception_shuffle_seed is None:
        return "inception score over 1 split"
    order = f"shuffled by seed {benchmark.inception_shuffle_seed}"
    return f"inception score over {benchmark.inception_splits} splits, {order}"


def small_sets(study: Study, table: Table, results: Path, not_made: Collection[str] = ()) -> list[str]:
    """Return a note for each Fréchet distance of fewer images than a covariance of full rank needs."""
    lines: dict[str, None] = {}
    for row in table.rows:
        if row.label in not_made:
            continue
        scores, benchmark = read_scores(row, results), _benchmark_of(study, row)
        if scores is None or benchmark is None:
            continue
        for column in table.columns:
            by_second = "_second" in column.metric
            features, images = (
                scores.get("features_second" if by_second else "features"),
                scores.get("images"),
            )
            if column.metric.replace("_second", "") not in FRECHET or features is None or images is None:
                continue
            count = min(int(images), benchmark.reference_images)
            if count < features + 1:
                text = f"{column.label}: of {count} images by {int(features)} features. Below features + 1 images"
                lines[f"{text} covariances lack full rank: not comparable with distances of more images."] = (
                    None
                )
    return list(lines)


def _benchmark_of(study: Study, row: Row) -> Reference | None:
    """Return the benchmark of a row whose images have features; None for other rows."""
    if row.tokenizer is None and row.samples is None:
        return None
    name = (
        study.tokenizers[row.tokenizer].benchmark
        if row.tokenizer
        else study.samples[str(row.samples)].benchmark
    )
    found = study.benchmarks[name]
    assert isinstance(found, Reference)
    return found


def _sampling(samples: Samples) -> str:
    text, told = samples.text, ""
    if text is not None:
        score = f", aesthetic score {text.aesthetic:g}" if text.aesthetic is not None else ""
        told = f", {text.captions} captions{score}"
    return f"{samples.sampling.summary()}{told}, seed {samples.seed}"
