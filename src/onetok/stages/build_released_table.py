"""Builds a table of the rows that need no training: those of released weights, and those that are made already."""

from __future__ import annotations

from onetok.stages.build_table import build_table
from onetok.stages.common.runtime import Context, main


def build_released_table(context: Context) -> None:
    """Write table.csv, table.md and table.tex, in which the other rows are marked as not made."""
    build_table(context, context.job.params["not_made"])


if __name__ == "__main__":
    main("build_released_table", build_released_table)
