"""Measures the speed of tokenizers, of generators, or of 1D systems and a diffusion model, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from onetok import durable
from onetok.progress import track
from onetok.report.markup import markdown_text
from onetok.speed import report
from onetok.speed.comparisons import measure_comparison
from onetok.speed.generators import generator_of, measure_sampling, sampling_case
from onetok.speed.measure import measure, peak_memory
from onetok.speed.report import Row
from onetok.speed.tokenizers import DIRECTIONS, tokenizer_case
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.speeds import ComparisonSpeed, GeneratorSpeed, TokenizerSpeed


class Result(NamedTuple):
    """The three outputs of a measurement."""

    content: dict[str, Any]  # all measurements, as JSON
    table: pd.DataFrame
    text: str  # Markdown


def measure_speed(context: Context) -> None:
    """Write speed.json, table.csv and table.md."""
    entry = context.study.speeds[context.job.name]
    content, table, text = _MEASURES[type(entry)](context, entry)
    durable.write_json(context.folder / "speed.json", content, sort_keys=False)
    durable.write_text(context.folder / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    durable.write_text(context.folder / "table.md", text)
    print(f"\n{text}")


def _tokenizers(context: Context, entry: TokenizerSpeed) -> Result:
    device, execution = context.device, entry.cuda if context.device.type == "cuda" else entry.cpu
    rows = []
    for name, direction in _track(context, [(n, d) for n in entry.tokenizers for d in DIRECTIONS], "calls"):
        tokenizer = context.study.tokenizers[name]
        make = partial(tokenizer_case, tokenizer, execution, entry.seed, direction, device)
        memory = peak_memory(make, device)
        rows.append(Row(name, direction, measure(make(), entry.rounds, device), memory))
    machine = report.describe(execution, device, entry.rounds)
    table = report.frame(rows)
    text = report.markdown(entry.title, table, (machine, *report.NOTES))
    return Result(report.content(rows, machine), table, text)


def _generators(context: Context, entry: GeneratorSpeed) -> Result:
    device, execution = context.device, entry.cuda if context.device.type == "cuda" else entry.cpu
    rows, rates = [], []
    for run in _track(context, execution.runs, "calls"):
        system = generator_of(context.study, run.samples)
        how = (run.batch, execution.precision, run.compiled)
        make = partial(sampling_case, system, *how, entry.seed, device)
        memory = peak_memory(make, device)
        measured = measure_sampling(make(), entry.rounds, device)
        rates.append(measured.rates)
        call = f"{measured.work.count} steps, batch {run.batch}{', compiled' if run.compiled else ''}"
        rows.append(Row(context.study.samples[run.samples].generator, call, measured, memory))
    machine = report.describe_sampling(rates, execution.precision, device, entry.rounds)
    table = report.frame(rows)
    text = report.markdown(entry.title, table, (machine, *report.SAMPLING_NOTES))
    return Result(report.content(rows, machine), table, text)


def _comparisons(context: Context, entry: ComparisonSpeed) -> Result:
    device, execution = context.device, entry.cuda if context.device.type == "cuda" else entry.cpu
    rows = []
    for comparison in _track(context, entry.comparisons, "comparisons"):
        measured = measure_comparison(context.study, comparison, execution, entry.seed, entry.rounds, device)
        rows.append((comparison, measured))
    machine = report.describe_machine(
        f"batch {execution.batch}, {execution.precision}, not compiled", device, entry.rounds
    )
    table = report.comparisons_frame(rows)
    text = report.comparisons_markdown(
        entry.title, table, (machine, markdown_text(entry.note), *report.COMPARISON_NOTES)
    )
    return Result(report.comparisons_content(rows, machine), table, text)


_MEASURES: dict[type, Callable[[Context, Any], Result]] = {
    TokenizerSpeed: _tokenizers,
    GeneratorSpeed: _generators,
    ComparisonSpeed: _comparisons,
}


def _track(context: Context, items: Any, unit: str) -> Any:
    return track(items, f"measure_speed {context.job.name}", unit, len(items))


if __name__ == "__main__":
    main("measure_speed", measure_speed)
