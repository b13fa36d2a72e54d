"""The page of a study: its published pictures and tables, with what the columns mean said once at the end.

A table in results/ shows the single run of its study, so that it is a function of this run's scores alone. The page
shows mean ± standard deviation over the recorded runs in place of one run's figures, and in how many of the runs a
claim is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from onetok.report.claims import RELATIONS
from onetok.report.markup import markdown_text
from onetok.report.tables import legend, measured_by, render, small_sets
from onetok.spread.intervals import Interval
from onetok.spread.kept import KeptRun, kept_intervals, kept_runs, key_of, table_intervals
from onetok.study.plan import scores_of
from onetok.study.schema.study import Study
from onetok.study.schema.tables import Claim, Column, Table


class Pages:
    """The published tables of a study."""

    def __init__(self, study: Study, directory: Path) -> None:
        self.study, self.directory = study, directory
        self.runs: list[KeptRun] = kept_runs(study, directory)
        self.intervals = kept_intervals(study, self.runs)

    def page(self) -> str:
        """Return the pictures and the tables as Markdown, then what the columns mean."""
        tables = [name for name in self.study.tables if (self._folder(name) / "table.csv").is_file()]
        runs = [interval for _, _, interval in self._kept(tables)]
        parts = ["## Pictures", *self._pictures(), "## Tables"]
        parts += [note(runs)] if runs else []
        parts += [self.table(name) for name in tables]
        return "\n\n".join([*parts, "## Columns", self._columns(tables)]) + "\n"

    def _folder(self, name: str) -> Path:
        return self.directory / "evidence/tables" / name

    def _kept(self, tables: list[str]) -> Iterator[tuple[str, str, Interval]]:
        for name in tables:
            yield from table_intervals(self.study.tables[name], self.intervals)

    def _pictures(self) -> Iterator[str]:
        figures = sorted(self.study.figures.items(), key=lambda item: item[1].kind != "overview")  # stable
        for name, figure in figures:
            path = Path("evidence/figures") / name / "figure.png"
            if (self.directory / path).is_file() and figure.kind != "curves":
                yield f"![{markdown_text(figure.title)}]({path.as_posix()})"

    def _columns(self, tables: list[str]) -> str:
        """Return the meaning of every column of these tables; a column may mean two things in two of them."""
        meanings: dict[str, dict[str, None]] = {}
        for name in tables:
            for label, text in legend(self.study.tables[name]).items():
                meanings.setdefault(label, {})[text] = None
        lines = [f"- {label}: {'; or '.join(texts)}." for label, texts in sorted(meanings.items())]
        return "\n".join(lines)

    def table(self, name: str, folded: bool = True) -> str:
        """Return a published table as Markdown: with means over runs or, if no runs are recorded, as published.

        How it was measured is folded away, or left out.
        """
        folder, table = self._folder(name), self.study.tables[name]
        frame = pd.read_csv(folder / "table.csv", keep_default_na=False, na_values=[""])
        kept = {(label, metric): found for label, metric, found in table_intervals(table, self.intervals)}
        current = [column.metric for column in table.columns if column.metric in frame]
        labels = [row.label for row in table.rows]
        is_current = len(current) == len(table.columns) and list(frame["label"]) == labels
        if not (table.spread and kept and is_current):
            return (folder / "table.md").read_text(encoding="utf-8").strip()
        shown = {
            (label, column.metric): cell_of(kept[label, column.metric], column)
            for label in labels
            for column in table.columns
            if (label, column.metric) in kept
        }
        lines = [*self._claims(table), *small_sets(self.study, table, self.directory / "evidence")]
        text = render(table, frame, lines, shown).markdown.strip()
        return f"{text}\n\n{self._measured(table)}" if folded else text

    def _measured(self, table: Table) -> str:
        lines = "\n".join(f"- {markdown_text(line)}" for line in measured_by(self.study, table))
        return f"<details><summary>How it was measured</summary>\n\n{lines}\n\n</details>"

    def _claims(self, table: Table) -> Iterator[str]:
        decimals = {column.metric: column.decimals for column in table.columns}
        for claim in table.claims:
            pairs = list(self._pairs(table, claim))
            if not pairs:
                yield f"{claim.text} No run is kept that says so or not."
                continue
            held = sum(RELATIONS[claim.relation](row, other) for row, other in pairs)
            row, other = (
                f"{sum(values) / len(pairs):.{decimals[claim.metric]}f}"
                for values in zip(*pairs, strict=True)
            )
            yield f"{claim.text} Holds in {held} of {len(pairs)} runs: {row} against {other} on average."

    def _pairs(self, table: Table, claim: Claim) -> Iterator[tuple[float, float]]:
        """Yield the two figures of a claim in every run that has both."""
        scores = {row.label: scores_of(row) for row in table.rows}
        for run in self.runs:
            found = []
            for artefact in (scores[claim.row], scores[claim.other]):
                held = run.scores.get(key_of(artefact)) if artefact is not None else None
                found.append(held.figures.get(claim.metric) if held is not None else None)
            row, other = found
            if row is not None and other is not None:
                yield row, other


def cell_of(interval: Interval, column: Column) -> str:
    """Return "mean ± standard deviation (runs)", or the mean alone of a figure that follows from params alone."""
    mean = f"{interval.mean:.{column.decimals}f}"
    if interval.low == interval.high == interval.mean:
        return mean
    return f"{mean} ± {interval.deviation:.{column.decimals}f} ({interval.n})"


def note(found: list[Interval]) -> str:
    """Return the note that explains the cells of `cell_of`."""
    runs = sorted({interval.n for interval in found})
    several = " to ".join(map(str, dict.fromkeys((runs[0], runs[-1]))))
    return (
        f"Mean ± standard deviation (number of runs) over {several} runs of the whole study, each with other seeds or "
        "another instruction set of the processor; a cell without ± is the published run's own figure, or one that "
        "follows from the params alone."
    )
