"""Builds a table as CSV, Markdown and LaTeX: with the scores of all of its rows, or without those not made."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from onetok import durable
from onetok.report.claims import claim_lines
from onetok.report.tables import protocol, render, small_sets, table_frame
from onetok.stages.common.runtime import Context, main


def build_whole_table(context: Context) -> None:
    """Write a table with all of its rows, and remove the one of released weights, which it replaces."""
    build_table(context)
    shutil.rmtree(Path("results/released") / context.job.name, ignore_errors=True)


def build_table(context: Context, not_made: Collection[str] = ()) -> None:
    """Write table.csv, table.md and table.tex, without the scores of the rows labelled `not_made`."""
    table = context.study.tables[context.job.name]
    frame = table_frame(table, Path("results"), not_made)
    notes = [*claim_lines(table, frame), *protocol(context.study, table, not_made)]
    notes += small_sets(context.study, table, Path("results"), not_made)
    rendered = render(table, frame, notes, not_made=not_made)
    for suffix, text in (("csv", rendered.csv), ("md", rendered.markdown), ("tex", rendered.latex)):
        durable.write_text(context.folder / f"table.{suffix}", text)
    print(f"\n{rendered.markdown}")


if __name__ == "__main__":
    main("build_table", build_whole_table)
