"""Compares a study's results with its published evidence, table by table, by the spread of the recorded runs.

The verdict on a table is one of

    identical               the tables are equal, byte for byte
    within the spread       every figure is in the prediction interval of one more run with the same params
    outside                 some figure is outside its interval, be it worse or better
    broken                  no machine can produce these figures with the same params, see below
    no spread kept          figures differ, and there are fewer than two runs for an interval
    other params            figures differ, and the evidence was made with other params or versions of stages
    other rows or columns   a table does not have those of params, so it was made with other params
    damaged                 a table is not what onetok writes
    missing                 a table does not exist

A correct reproduction on another processor gets one of the first three (outside with the probability `chance` of
params, one in a thousand). These are no failures, nor is a result without anything to compare it with. Failures are
what cannot come from the same params: a receipt that does not verify; a missing or damaged table; a different figure
where it follows from params alone (such as a number of parameters); a figure where the evidence has none, or the
reverse; a figure outside the gate, which is `gate` times as wide as the interval; and a row of which most figures are
nearer to those of a control, such as an untrained model, than to its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from onetok.errors import OnetokError, one_line, shown
from onetok.report.tables import NO_NUMBER, frame_columns
from onetok.spread.intervals import Interval, Runs, distance
from onetok.spread.kept import KeptRun, figures, kept_intervals, kept_runs
from onetok.spread.machines import differences
from onetok.study.plan import (
    Artefact,
    Job,
    all_jobs,
    jobs_behind,
    plan,
    released_targets,
    scores_of,
)
from onetok.study.receipts import Made, verify
from onetok.study.schema.study import Study
from onetok.study.schema.tables import Column, Table

FAILURES = ("broken", "missing", "damaged", "other rows or columns")
SHOWN = 10  # problems of receipts that are listed; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A cell of a table: the figure of these results, that of the evidence, and the spread of the recorded runs."""

    label: str  # of the row
    column: Column
    ours: float  # NaN if it does not apply or is not a number
    evidence: float  # NaN if the evidence has none
    is_number: bool  # false if the computed score is NaN
    runs: Runs
    interval: Interval | None  # None with fewer than two runs
    is_current: bool  # whether the evidence was made with the present params and versions of stages

    @property
    def reference(self) -> float:
        """Return the mean of the runs or, without an interval, the evidence."""
        return self.interval.mean if self.interval is not None else self.evidence

    @property
    def fault(self) -> str | None:
        """Return why no machine can produce this figure with the same params; None if one can."""
        if not self.is_number:
            return "it was computed and is no number"
        if self.is_current and math.isnan(self.ours) != math.isnan(self.evidence):
            return "there is a figure on one side alone"
        if self.is_current and self.runs.measure.scale == "exact" and self.ours != self.evidence:
            return "it follows from params alone"
        if self.interval is not None and not self.interval.is_plausible(self.ours):
            return f"the gate is {_range(self.interval.gate_low, self.interval.gate_high)}"
        return None

    @property
    def is_outside(self) -> bool:
        """Return whether the figure is outside its interval."""
        if self.interval is None or math.isnan(self.ours):
            return False
        return not self.interval.holds(self.ours)

    @property
    def line(self) -> str:
        """Return a line that states the figure and what it is compared with."""
        start = f"{self.label}, {self.column.label}: {_number(self.ours)}"
        if self.interval is None:
            return (
                f"{start}, evidence {_number(self.evidence)}{'' if self.is_current else ', of other params'}"
            )
        interval = self.interval
        spread = f"{_number(interval.mean)} ± {_number(interval.deviation)} in {interval.n} runs"
        return f"{start}, {spread}, interval {_range(interval.low, interval.high)}{self._direction}"

    @property
    def _direction(self) -> str:
        if not self.is_outside or self.column.better == "neither":
            return ""
        higher = self.ours > self.reference
        return ", better" if higher == (self.column.better == "higher") else ", worse"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The verdict on a table, the lines that explain it, and every figure."""

    verdict: str  # as in the module docstring
    lines: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    not_made: int = 0  # rows of a table of released weights that it lacks; they are not compared

    @property
    def failed(self) -> bool:
        """Return whether the verdict is a failure."""
        return self.verdict in FAILURES


class Comparison:
    """Compares the tables of a study. Their intervals are computed together (onetok.spread.intervals)."""

    def __init__(self, study: Study, directory: Path, *, released: bool = False) -> None:
        """`released`: those tables that lack the rows that have to be trained, in results/released/."""
        self.study, self.directory, self.released = study, directory, released
        self.is_made = Made(study, directory)
        runs: list[KeptRun] = kept_runs(study, directory)
        self.runs: Mapping[tuple[Artefact, str], Runs] = figures(study, runs)
        self.intervals = kept_intervals(study, runs)
        self._current: dict[Artefact, bool] = {}

    def table(self, name: str) -> Compared:
        """Compare one table of results/ with that of evidence/."""
        table = self.study.tables[name]
        evidence = self.directory / "evidence/tables" / name / "table.csv"
        ours = self.directory / "results" / self._kind / name / "table.csv"
        for path in (evidence, ours):
            if not path.exists():
                make = f"onetok make results/tables/{name}/receipt.json"
                remedy = f"make it: {make}" if path == ours else "publish it: onetok publish"
                return Compared(verdict="missing", lines=[f"{path}: no such file; {remedy}"])
        contents = {}
        for path, remedy in (
            (ours, "make the table again"),
            (evidence, "publish the tables of today's params"),
        ):
            try:
                contents[path] = _read(path)
            except OnetokError as error:
                return Compared(verdict="damaged", lines=[f"{path}: {error}"])
            other = _unlike_params(table, contents[path])
            if other is not None:
                return Compared(verdict="other rows or columns", lines=[f"{path}: {other}: {remedy}"])
        not_made = self._not_made(name)
        found_figures = list(self._figures(table, contents[ours], contents[evidence], not_made))
        if ours.read_bytes() == evidence.read_bytes():
            return Compared(verdict="identical", figures=found_figures)
        return replace(_verdict(table, found_figures), not_made=len(not_made))

    @property
    def tables(self) -> list[str]:
        """The names of the tables that are compared."""
        if not self.released:
            return list(self.study.tables)
        return [artefact.name for artefact in released_targets(self.study, self.is_made)]

    @property
    def _kind(self) -> str:
        return "released" if self.released else "tables"

    def _not_made(self, name: str) -> list[str]:
        """Return the labels of the rows that a table lacks."""
        return list(plan(self.study, self._kind, name, self.is_made).params.get("not_made", []))

    def _figures(
        self, table: Table, ours: pd.DataFrame, evidence: pd.DataFrame, not_made: list[str]
    ) -> Iterator[Figure]:
        for index, row in enumerate(table.rows):
            scores = scores_of(row)
            for column in table.columns if scores is not None and row.label not in not_made else ():
                assert scores is not None
                yield Figure(
                    label=row.label,
                    column=column,
                    ours=_figure(ours[column.metric][index]),
                    evidence=_figure(evidence[column.metric][index]),
                    is_number=ours[column.metric][index] != NO_NUMBER,
                    runs=self.runs[scores, column.metric],
                    interval=self.intervals.get((scores, column.metric)),
                    is_current=self._is_current(scores),
                )

    def _is_current(self, artefact: Artefact) -> bool:
        """Return whether the evidence of an artefact and of all its inputs was made with the present params."""
        if artefact not in self._current:
            job = plan(self.study, artefact.kind, artefact.name)
            path = self.directory / artefact.receipt.replace("results/", "evidence/", 1)
            try:
                receipt = json.loads(path.read_text(encoding="utf-8"))
                found = (receipt["params"], receipt["version"]) == (job.params, job.version)
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                found = False
            self._current[artefact] = found and all(self._is_current(needed) for needed in job.inputs)
        return self._current[artefact]

    def receipts(self) -> list[str]:
        """Return the problems of the receipts of all artefacts of the study, a line each."""
        jobs: list[Job] = list(all_jobs(self.study))
        if self.released:
            wanted = released_targets(self.study, self.is_made)
            jobs = list(jobs_behind(self.study, wanted, self.is_made))
        return [line for job in jobs for line in verify(job, self.directory, digests=True)]

    def machines(self) -> list[str]:
        """Return the differences between the machines of results/ and of the evidence, a line each."""
        return differences(all_jobs(self.study), self.directory)


def _read(path: Path) -> pd.DataFrame:
    """Return the cells of a table as text. Raises OnetokError, without the path, for what onetok does not write."""
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except ValueError as error:  # of pandas and of decoding, too
        raise OnetokError(f"not a table that onetok wrote ({one_line(error)})") from None
    for column in cells.columns.drop("label", errors="ignore"):
        for row, cell in enumerate(cells[column]):
            if not _is_figure(cell):
                raise OnetokError(
                    f"row {row + 1}, {column}: found {shown(cell)}, expected a number or nothing"
                )
    return cells


def _unlike_params(table: Table, cells: pd.DataFrame) -> str | None:
    """Return how the rows or columns of a written table differ from those that params have; None where they do not."""
    found, expected = list(map(str, cells.columns)), frame_columns(table)
    if found != expected:
        return f"its columns are {', '.join(found)}, in params they are {', '.join(expected)}"
    labels = [row.label for row in table.rows]
    if list(cells["label"]) != labels:
        return f"its rows are {', '.join(cells['label'])}, in params they are {', '.join(labels)}"
    return None


def _is_figure(cell: str) -> bool:
    try:
        _figure(cell)
    except ValueError:
        return False
    return True


def _figure(cell: str) -> float:
    return math.nan if cell == "" else float(cell)


def _verdict(table: Table, found: list[Figure]) -> Compared:
    faults = [f"{figure.line}; {figure.fault}" for figure in found if figure.fault is not None]
    faults += list(_like_controls(table, found))
    if faults:
        return Compared(verdict="broken", lines=faults, figures=found)
    outside = [figure.line for figure in found if figure.is_outside]
    if outside:
        return Compared(verdict="outside", lines=outside, figures=found)
    unknown = [f for f in found if f.interval is None and not _equal(f.ours, f.evidence)]
    if unknown:
        verdict = "no spread kept" if all(figure.is_current for figure in unknown) else "other params"
        return Compared(verdict=verdict, lines=[figure.line for figure in unknown], figures=found)
    return Compared(verdict="within the spread", figures=found)


def _like_controls(table: Table, found: list[Figure]) -> Iterator[str]:
    """Yield a line for each row of which most figures are nearer to those of a control than to its reference."""
    rows: dict[str, dict[str, Figure]] = {}
    for figure in found:
        known = figure.is_current or figure.interval is not None
        if known and figure.column.better != "neither" and not math.isnan(figure.ours + figure.evidence):
            rows.setdefault(figure.label, {})[figure.column.metric] = figure
    for control in (rows[label] for label in table.controls if label in rows):
        for label, row in rows.items():
            if label in table.controls:
                continue
            nearer = [
                metric for metric in row if metric in control and _is_nearer(row[metric], control[metric])
            ]
            if 2 * len(nearer) > len(row):
                name = next(iter(control.values())).label
                found_in = f"{len(nearer)} of its {len(row)} figures"
                yield f"{label}: {found_in} are nearer to those of the control, {name}, than to its own"


def _is_nearer(figure: Figure, control: Figure) -> bool:
    to_control = distance(figure.runs, figure.ours, control.reference)
    return to_control < distance(figure.runs, figure.ours, figure.reference)


def _equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}"


# ---------------------------------------------------------------------------------------------- report


def report(
    study: Study, directory: Path, *, every_figure: bool, released: bool = False
) -> tuple[list[str], bool]:
    """Return the lines that `onetok compare` prints, and whether the comparison failed."""
    comparison = Comparison(study, directory, released=released)
    lines, failed = [], False
    for name in comparison.tables:
        compared = comparison.table(name)
        rows = f", {compared.not_made} rows not made" if compared.not_made else ""
        lines.append(f"{name}: {compared.verdict}{_summary(compared)}{rows}")
        lines += [f"  {line}" for line in compared.lines]
        if every_figure:
            lines += [f"  {f.line}" for f in compared.figures if f.line not in compared.lines]
        failed |= compared.failed
    problems = comparison.receipts()
    if problems:
        lines.append(f"receipts: {len(problems)} problems")
        lines += [f"  {line}" for line in problems[:SHOWN]]
        lines += [f"  … and {len(problems) - SHOWN} more: onetok verify"] * (len(problems) > SHOWN)
    else:
        lines.append("receipts: all hold")
    lines += comparison.machines()
    return lines, failed or bool(problems)


def _summary(compared: Compared) -> str:
    """Return how many of the figures that have an interval are inside it, as the end of a line."""
    known = [f for f in compared.figures if f.interval is not None and not math.isnan(f.ours)]
    if compared.verdict not in ("within the spread", "outside") or not known:
        return ""
    inside = sum(not figure.is_outside for figure in known)
    return f", {inside} of {len(known)} figures inside their intervals"
