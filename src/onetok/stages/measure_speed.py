"""Measure how fast this machine runs systems, beside the time that their products alone take on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

from onetok.params import Execution
from onetok.progress import track
from onetok.speed.measure import Case, measure, peak_memory
from onetok.speed.report import Row, content, describe, frame, markdown
from onetok.speed.tokenizers import DIRECTIONS, tokenizer_case
from onetok.stages.runtime import Context, main


def measure_speed(context: Context) -> None:
    entry = context.study.speeds[context.job.name]
    execution = entry.cuda if context.device.type == "cuda" else entry.cpu
    cases = list(_cases(context, execution))
    rows = []
    for system, call, make in track(cases, f"measure_speed {context.job.name}", "calls", len(cases)):
        memory = peak_memory(make, context.device)
        rows.append(Row(system, call, measure(make(), entry.rounds, context.device), memory))
    machine = describe(execution, context.device, entry.rounds)
    table = frame(rows)
    text = markdown(entry.title, table, machine)
    (context.folder / "speed.json").write_text(json.dumps(content(rows, machine), indent=2) + "\n")
    (context.folder / "table.csv").write_text(table.to_csv(index=False, lineterminator="\n"))
    (context.folder / "table.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


def _cases(context: Context, execution: Execution) -> Iterator[tuple[str, str, Callable[[], Case]]]:
    """Yield (system, call, how to make its case) in the order of the table's rows."""
    entry = context.study.speeds[context.job.name]
    for name in entry.tokenizers:
        for direction in DIRECTIONS:
            tokenizer = context.study.tokenizers[name]
            make = partial(tokenizer_case, tokenizer, execution, entry.seed, direction, context.device)
            yield name, direction, make


if __name__ == "__main__":
    main("measure_speed", measure_speed)
