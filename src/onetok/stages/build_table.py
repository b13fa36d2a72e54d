"""Builds a table as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

from onetok import durable
from onetok.report.claims import claim_lines
from onetok.report.tables import protocol, render, small_sets, table_frame
from onetok.stages.common.runtime import Context, main


def build_table(context: Context) -> None:
    """Write table.csv, table.md and table.tex."""
    table = context.study.tables[context.job.name]
    frame = table_frame(table, Path("results"))
    notes = [*claim_lines(table, frame), *protocol(context.study, table)]
    notes += small_sets(context.study, table, Path("results"))
    rendered = render(table, frame, notes)
    for suffix, text in (("csv", rendered.csv), ("md", rendered.markdown), ("tex", rendered.latex)):
        durable.write_text(context.folder / f"table.{suffix}", text)
    print(f"\n{rendered.markdown}")


if __name__ == "__main__":
    main("build_table", build_table)
