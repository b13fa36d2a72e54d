"""Measure how fast this machine runs systems, beside what their products alone take on it, or another system."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from onetok import durable, params
from onetok.markup import markdown_text
from onetok.progress import track
from onetok.speed import report
from onetok.speed.generators import measure_sampling, sampling_case, system_of
from onetok.speed.measure import measure, peak_memory
from onetok.speed.pairs import measure_pair
from onetok.speed.report import Row
from onetok.speed.tokenizers import DIRECTIONS, tokenizer_case
from onetok.stages.runtime import Context, main


class Result(NamedTuple):
    content: dict[str, Any]  # everything, as JSON
    table: pd.DataFrame
    text: str  # Markdown


def measure_speed(context: Context) -> None:
    entry = context.study.speeds[context.job.name]
    content, table, text = _MEASURES[type(entry)](context, entry)
    durable.write_json(context.folder / "speed.json", content, sort_keys=False)
    durable.write_text(context.folder / "table.csv", table.to_csv(index=False, lineterminator="\n"))
    durable.write_text(context.folder / "table.md", text)
    print(f"\n{text}")


def _tokenizers(context: Context, entry: params.TokenizerSpeed) -> Result:
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


def _generators(context: Context, entry: params.GeneratorSpeed) -> Result:
    device, execution = context.device, entry.cuda if context.device.type == "cuda" else entry.cpu
    rows, rates = [], []
    for run in _track(context, execution.runs, "calls"):
        system = system_of(context.study, run.samples)
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


def _pairs(context: Context, entry: params.PairSpeed) -> Result:
    device, execution = context.device, entry.cuda if context.device.type == "cuda" else entry.cpu
    rows = []
    for pair in _track(context, entry.pairs, "pairs"):
        measured = measure_pair(context.study, pair, execution, entry.seed, entry.rounds, device)
        rows.append((pair, measured))
    machine = report.describe_machine(
        f"batch {execution.batch}, {execution.precision}, not compiled", device, entry.rounds
    )
    table = report.pairs_frame(rows)
    text = report.pairs_markdown(entry.title, table, (machine, markdown_text(entry.note), *report.PAIR_NOTES))
    return Result(report.pairs_content(rows, machine), table, text)


_MEASURES: dict[type, Callable[[Context, Any], Result]] = {
    params.TokenizerSpeed: _tokenizers,
    params.GeneratorSpeed: _generators,
    params.PairSpeed: _pairs,
}


def _track(context: Context, items: Any, unit: str) -> Any:
    return track(items, f"measure_speed {context.job.name}", unit, len(items))


if __name__ == "__main__":
    main("measure_speed", measure_speed)
