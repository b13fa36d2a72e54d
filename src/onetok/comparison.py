"""Comparison of a study's results with its evidence: table by table, by the spread of the runs that are kept.

A table is

    identical               byte for byte
    within the spread       every figure lies where one more run of the same params on another machine would
    outside                 some figure does not, to the worse or to the better
    broken                  see below
    no spread kept          other figures, and fewer than two runs to judge them by
    other params            other figures, and the evidence was made with other params or versions of stages
    other rows or columns   it does not have those of params, so it was made with other params
    damaged                 it is not what onetok writes
    missing                 it is not there

Another processor's honest result is one of the first three (outside once in a thousand times, by choice: `chance` in
params), and none of them is a failure, nor is a result that there is nothing to compare with. What fails is what no
machine makes of the same params: a receipt that does not hold; a missing or damaged table; a figure that follows from
params alone (a number of parameters) and differs; one that is there where the evidence has none, or the other way
round; one beyond the gate, `gate` times as far out as the interval; and a row whose figures are nearer to those of a
control, such as an untrained model, than to its own, in most columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from onetok.errors import OnetokError, one_line, shown
from onetok.params import Column, Study, Table
from onetok.plan import Artefact, Job, all_jobs, plan
from onetok.receipts import verify
from onetok.spread.intervals import Interval, Runs, distance
from onetok.spread.kept import KeptRun, figures, kept_intervals, kept_runs, scores_of
from onetok.spread.machines import differences
from onetok.tables import NO_NUMBER, frame_columns

FAILURES = ("broken", "missing", "damaged", "other rows or columns")
SHOWN = 10  # receipts that do not hold, before the rest is counted


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A cell of a table: ours, what the evidence has, and the runs that say how far it may be off."""

    label: str
    column: Column
    ours: float
    evidence: float
    is_number: bool  # NaN that was computed is none; NaN in `ours` is what does not apply, too
    runs: Runs
    interval: Interval | None
    is_current: bool  # whether the evidence was made with today's params and versions

    @property
    def reference(self) -> float:
        return self.interval.mean if self.interval is not None else self.evidence

    @property
    def fault(self) -> str | None:
        """What no machine makes of the same params; None for a figure that may be right."""
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
        if self.interval is None or math.isnan(self.ours):
            return False
        return not self.interval.holds(self.ours)

    @property
    def line(self) -> str:
        start = f"{self.label}, {self.column.label}: {_number(self.ours)}"
        if self.interval is None:
            return (
                f"{start}, evidence {_number(self.evidence)}{'' if self.is_current else ', of other params'}"
            )
        kept = self.interval
        spread = f"{_number(kept.mean)} ± {_number(kept.deviation)} in {kept.n} runs"
        return f"{start}, {spread}, interval {_range(kept.low, kept.high)}{self._direction}"

    @property
    def _direction(self) -> str:
        if not self.is_outside or self.column.better == "neither":
            return ""
        higher = self.ours > self.reference
        return ", better" if higher == (self.column.better == "higher") else ", worse"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The verdict on a table, the lines that explain it, and every figure."""

    verdict: str
    lines: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.verdict in FAILURES


class Comparison:
    """Compares the tables of a study; the intervals of all of them belong together."""

    def __init__(self, study: Study, directory: Path) -> None:
        self.study, self.directory = study, directory
        runs: list[KeptRun] = kept_runs(study, directory)
        self.runs: Mapping[tuple[Artefact, str], Runs] = figures(study, runs)
        self.intervals = kept_intervals(study, runs)
        self._current: dict[Artefact, bool] = {}

    def table(self, name: str) -> Compared:
        table = self.study.tables[name]
        ours, evidence = (
            self.directory / top / "tables" / name / "table.csv" for top in ("results", "evidence")
        )
        for path in (evidence, ours):
            if not path.exists():
                return Compared(verdict="missing", lines=[f"{path}: no such file"])
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
        found_figures = list(self._figures(table, contents[ours], contents[evidence]))
        if ours.read_bytes() == evidence.read_bytes():
            return Compared(verdict="identical", figures=found_figures)
        return _judged(table, found_figures)

    def _figures(self, table: Table, ours: pd.DataFrame, evidence: pd.DataFrame) -> Iterator[Figure]:
        for index, row in enumerate(table.rows):
            scores = scores_of(row)
            for column in table.columns if scores is not None else ():
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
        """Return whether the evidence of an artefact, and of all that it is made from, is of today's params."""
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
        """Return what is wrong with the receipts of all that the tables and figures are made from."""
        jobs: list[Job] = list(all_jobs(self.study))
        return [line for job in jobs for line in verify(job, self.directory, digests=True)]

    def machines(self) -> list[str]:
        """Return how the machine of results/ differs from that of the evidence."""
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


def _judged(table: Table, found: list[Figure]) -> Compared:
    faults = [f"{figure.line}; {figure.fault}" for figure in found if figure.fault is not None]
    faults += list(_like_controls(table, found))
    if faults:
        return Compared(verdict="broken", lines=faults, figures=found)
    outside = [figure.line for figure in found if figure.is_outside]
    if outside:
        return Compared(verdict="outside", lines=outside, figures=found)
    unjudged = [f for f in found if f.interval is None and not _equal(f.ours, f.evidence)]
    if unjudged:
        verdict = "no spread kept" if all(figure.is_current for figure in unjudged) else "other params"
        return Compared(verdict=verdict, lines=[figure.line for figure in unjudged], figures=found)
    return Compared(verdict="within the spread", figures=found)


def _like_controls(table: Table, found: list[Figure]) -> Iterator[str]:
    """Yield a line for each row that most of its figures put nearer to a control than to itself."""
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


def report(study: Study, directory: Path, *, every_figure: bool) -> tuple[list[str], bool]:
    """Return what `onetok compare` prints, and whether something is broken."""
    comparison = Comparison(study, directory)
    lines, failed = [], False
    for name in study.tables:
        compared = comparison.table(name)
        lines.append(f"{name}: {compared.verdict}{_summary(compared)}")
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
    """Return how many figures were judged, and the one that is furthest out for its interval."""
    judged = [f for f in compared.figures if f.interval is not None and not math.isnan(f.ours)]
    if compared.verdict not in ("within the spread", "outside") or not judged:
        return ""
    inside = sum(not figure.is_outside for figure in judged)
    return f", {inside} of {len(judged)} figures inside their intervals"
