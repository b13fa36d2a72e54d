"""results/index.html: all that a study has measured, on one page that needs no network and no other file.

Tables can be sorted; beside a measured figure stands what is published of it or, where nothing is, what the kept runs
of the study (onetok.spread) have. A page can be written at any time: what is not made yet is said, with the command
that makes it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from onetok import durable
from onetok.report.claims import claim_lines
from onetok.report.tables import BETTER, NO_NUMBER, protocol, small_sets
from onetok.spread.intervals import Interval
from onetok.spread.kept import kept_intervals, kept_runs, table_intervals
from onetok.study.digests import sha256
from onetok.study.plan import Artefact, all_jobs
from onetok.study.schema.study import Study
from onetok.study.schema.tables import Column, Row, Table
from onetok.workflow.states import Found, State, find_state, running_jobs

PAGE = "results/index.html"
NEAR = 0.05  # a figure that differs from a published one by less than this share of it counts as reproduced

Deviation = Literal["near", "better", "worse", "other", ""]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A measured figure, and what it is compared with."""

    text: str
    value: float | None  # by which the table is sorted; None: comes last
    reference: str  # published figure, or mean ± deviation of the kept runs; may be empty
    deviation: Deviation  # from the reference
    title: str  # what is shown when the mouse rests on it


@dataclass(frozen=True, kw_only=True)
class Picture:
    title: str
    alt: str
    source: str  # a data: address, so that the page needs no other file


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table of params as the page shows it."""

    name: str
    title: str
    headers: list[str]
    rows: list[tuple[str, list[Cell]]]  # label, and a cell for each column
    notes: list[str]
    protocol: list[str]  # how it was measured, sampling settings included
    command: str  # that makes it again
    is_made: bool


def write_index(study: Study, directory: Path) -> Path:
    """Write the page of a study, and return its path."""
    path = directory / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(path, render_index(study, directory))
    return path


def render_index(study: Study, directory: Path) -> str:
    """Return the page of a study as HTML."""
    environment = Environment(
        loader=PackageLoader("onetok.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    running = running_jobs(directory)
    found = [find_state(job, directory, running) for job in all_jobs(study)]
    return environment.get_template("index.html").render(
        name=directory.resolve().name,
        made=sum(one.state == State.MADE for one in found),
        total=len(found),
        tables=list(table_views(study, directory)),
        figures=list(_figures(study, directory)),
        sheets=list(_contact_sheets(study, directory)),
        artefacts=[_artefact(one, directory) for one in found],
        minutes=sum(_minutes(one, directory) or 0.0 for one in found),
        machines=sorted({text for one in found if (text := _machine(one, directory))}),
        commands={
            "all": f"onetok make{_at(directory)}",
            "compare": f"onetok compare{_at(directory)}",
            "verify": f"onetok verify{_at(directory)}",
        },
    )


def _at(directory: Path) -> str:
    return "" if directory.resolve() == Path.cwd() else f" --study {directory}"


# ---------------------------------------------------------------------------------------------- tables


def table_views(study: Study, directory: Path) -> Iterator[TableView]:
    """Yield the tables of a study in the order of params."""
    kept = kept_intervals(study, kept_runs(study, directory))
    for name, table in study.tables.items():
        artefact = Artefact(kind="tables", name=name)
        command = f"onetok make{_at(directory)} {artefact.receipt}"
        path = directory / artefact.folder / "table.csv"
        headers = [f"{column.label}{BETTER[column.better]}" for column in table.columns]
        if not path.is_file() or not (directory / artefact.receipt).is_file():
            yield TableView(
                name=name,
                title=table.title,
                headers=headers,
                rows=[],
                notes=[],
                protocol=[],
                command=command,
                is_made=False,
            )
            continue
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
        runs = {(label, metric): found for label, metric, found in table_intervals(table, kept)}
        yield TableView(
            name=name,
            title=table.title,
            headers=headers,
            rows=[(row.label, _cells(table, row, frame, runs)) for row in table.rows if _has(frame, row)],
            notes=[note for note in (table.note, *claim_lines(table, frame)) if note],
            protocol=[*protocol(study, table), *small_sets(study, table, directory / "results")],
            command=command,
            is_made=True,
        )


def _has(frame: pd.DataFrame, row: Row) -> bool:
    """Return whether a table that is there has a row of params; params may have changed since it was made."""
    return row.label in set(frame["label"])


def _cells(table: Table, row: Row, frame: pd.DataFrame, runs: dict[tuple[str, str], Interval]) -> list[Cell]:
    (measured,) = frame[frame["label"] == row.label].to_dict("records")
    return [
        make_cell(row, column, measured.get(column.metric, math.nan), runs.get((row.label, column.metric)))
        for column in table.columns
    ]


def make_cell(row: Row, column: Column, measured: Any, kept: Interval | None) -> Cell:
    """Return the cell of a figure: beside a published figure or, where there is none, beside the kept runs."""
    value = math.nan if measured == NO_NUMBER else float(measured)
    text = measured if measured == NO_NUMBER else "–" if math.isnan(value) else f"{value:.{column.decimals}f}"
    figure = (row.published.figures if row.published is not None else {}).get(column.metric)
    reference, title = "", ""
    deviation: Deviation = ""
    if figure is not None:
        reference = f"{figure.value:.{column.decimals}f}{' ?' if figure.unverified else ''}"
        title = f"published: {figure.source}{', unverified' if figure.unverified else ''}"
        deviation = deviation_of(value, figure.value, abs(figure.value) * NEAR, column.better)
    elif kept is not None and kept.low != kept.high:
        reference = f"{kept.mean:.{column.decimals}f} ± {kept.deviation:.{column.decimals}f}"
        title = f"mean ± standard deviation of {kept.n} kept runs; one more is in [{kept.low:.4g}, {kept.high:.4g}]"
        inside = kept.holds(value)
        deviation = "near" if inside else deviation_of(value, kept.mean, 0.0, column.better)
    return Cell(
        text=str(text),
        value=None if math.isnan(value) else value,
        reference=reference,
        deviation="" if math.isnan(value) else deviation,
        title=title,
    )


def deviation_of(value: float, expected: float, near: float, better: str) -> Deviation:
    """Return how a figure deviates from what is expected: not by more than `near`, or to the better or worse side."""
    if math.isnan(value):
        return ""
    if abs(value - expected) <= near:
        return "near"
    if better == "neither":
        return "other"
    return "better" if (value > expected) == (better == "higher") else "worse"


# ---------------------------------------------------------------------------------------------- pictures


def _figures(study: Study, directory: Path) -> Iterator[Picture]:
    for name, figure in study.figures.items():
        path = directory / "results/figures" / name / "figure.png"
        if path.is_file():
            yield Picture(title=figure.title, alt=f"figure {name}", source=data_address(path))


def _contact_sheets(study: Study, directory: Path) -> Iterator[Picture]:
    for name, samples in study.samples.items():
        path = directory / "results/samples" / name / "contact-sheet.png"
        if path.is_file():
            title = f"{name}: {samples.sampling.summary()}, seed {samples.seed}"
            yield Picture(title=title, alt=f"samples {name}", source=data_address(path))


def data_address(path: Path) -> str:
    """Return a PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


# ---------------------------------------------------------------------------------------------- receipts and runs


def _artefact(one: Found, directory: Path) -> dict[str, Any]:
    """Return what the page says of an artefact."""
    receipt = directory / one.job.artefact.receipt
    return {
        "kind": one.job.artefact.kind,
        "name": one.job.name,
        "state": str(one.state),
        "digest": sha256(receipt)[:12] if receipt.is_file() else "",
        "minutes": _minutes(one, directory),
        "memory": _memory(one, directory),
        "command": f"onetok make{_at(directory)} {one.job.artefact.receipt}",
    }


def _run(one: Found, directory: Path) -> dict[str, Any]:
    """Return run.json of an artefact's job: when and where it ran, and for how long; empty where there is none."""
    path = directory / "results/logs" / one.job.stage / one.job.name / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _minutes(one: Found, directory: Path) -> float | None:
    seconds = _run(one, directory).get("seconds")
    return seconds / 60 if isinstance(seconds, int | float) else None


def _machine(one: Found, directory: Path) -> str:
    run = _run(one, directory)
    machine = run.get("machine", {})
    if not machine:
        return ""
    torch = machine.get("libraries", {}).get("torch", "?")
    where = machine.get("gpu") or machine.get("processor", "?")
    return f"{where}, {machine.get('threads', '?')} threads, PyTorch {torch}"


def _memory(one: Found, directory: Path) -> float | None:
    """Return the largest resident memory of a job in MiB, as Snakemake measured it."""
    path = directory / "results/benchmarks" / one.job.stage / f"{one.job.name}.tsv"
    try:
        header, values = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:2])
        return float(dict(zip(header, values, strict=True))["max_rss"])
    except (OSError, ValueError, KeyError):
        return None
