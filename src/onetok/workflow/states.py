"""What of a study is made, running, failed or waiting, and what its names stand for: `onetok list`, `onetok status`.

No torch is imported. Which jobs run is asked of this machine's processes; a cluster's jobs are not among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tabulate import tabulate

from onetok.errors import OnetokError, nearest, printable
from onetok.study.load import FOLDER_OF_KIND
from onetok.study.plan import KIND_OF_STAGE, Job, all_jobs, plan
from onetok.study.receipts import verify
from onetok.study.schema.study import Study
from onetok.study.schema.tables import Row, Table
from onetok.workflow.failures import NAMES, Run, reason
from onetok.workflow.needs import null_pins

LISTED = [kind for kind in FOLDER_OF_KIND if kind not in ("spreads",)]
FIRST_SCORES = (
    "rfid",
    "fid",
)  # the score of an entry that is listed, if its rows have none that is published
LAST_LINES = 5  # of the log of a failed job


class State(StrEnum):
    """What has become of an artefact."""

    MADE = "made"
    STALE = "stale"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "not made"


class Found(NamedTuple):
    """An artefact's state, and what is to be said of it."""

    job: Job
    state: State
    said: str  # why it is stale or has failed; empty otherwise
    log: Path

    @property
    def run(self) -> Run:
        return Run(self.job.stage, self.job.name, str(self.log))


def find_state(job: Job, directory: Path, running: set[tuple[str, str]]) -> Found:
    """Return the state of an artefact: by its receipt, the processes of this machine, and the log of its job."""
    log = directory / "results/logs" / job.stage / job.name / "log.txt"
    if (job.stage, job.name) in running:
        return Found(job, State.RUNNING, "", log)
    has_receipt = (directory / job.artefact.receipt).exists()
    if has_receipt:
        problems = verify(job, directory, digests=False)
        return Found(job, State.STALE if problems else State.MADE, problems[0] if problems else "", log)
    if log.is_file():
        return Found(job, State.FAILED, reason(Path(), Run(job.stage, job.name, str(log))), log)
    return Found(job, State.WAITING, "", log)


def running_jobs(directory: Path) -> set[tuple[str, str]]:
    """Return stage and name of the jobs of a study that run on this machine."""
    found = set()
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        stages = [word for word in words if word.startswith("onetok.stages.")]
        if not stages or place is None or Path(place) != directory.resolve():
            continue
        stage, after = stages[0].removeprefix("onetok.stages."), words[words.index(stages[0]) + 1 :]
        if stage in KIND_OF_STAGE and after:
            found.add((stage, after[0]))
    return found


# ---------------------------------------------------------------------------------------------- onetok list


def list_names(study: Study, directory: Path, kinds: Iterable[str]) -> str:
    """Return a table of the names of kinds of params (none: all): kind, name, what it is, state, expected score.

    Raises OnetokError for a kind that there is not.
    """
    wanted = list(kinds) or LISTED
    for kind in wanted:
        if kind not in LISTED:
            raise OnetokError(f"list: no kind {kind!r}; {nearest(kind, LISTED)} (of {', '.join(LISTED)})")
    running, scores = running_jobs(directory), expected_scores(study, directory)
    rows = []
    for kind in wanted:
        for name, entry in getattr(study, kind).items():
            state = state_of(study, kind, name, directory, running)
            rows.append([kind, name, getattr(entry, "kind", ""), state, scores.get((kind, name), "")])
    if not rows:
        return f"{directory}: params define no {', '.join(wanted)}"
    headers = ["", "name", "kind", "state", "expected"]
    text: str = tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
    return text


def state_of(study: Study, kind: str, name: str, directory: Path, running: set[tuple[str, str]]) -> str:
    """Return the state of an entry in words: of what is made from it, and whether released weights are pinned."""
    made_of = {"benchmarks": "references", "speeds": "benchmarks/speed"}.get(kind, kind)
    found = find_state(plan(study, made_of, name), directory, running)
    weights = getattr(getattr(study, kind)[name], "weights", None)
    pinned = "" if weights is None else "released, not pinned" if null_pins(weights) else "released, pinned"
    return ", ".join(part for part in (pinned, str(found.state)) if part)


def expected_scores(study: Study, directory: Path) -> dict[tuple[str, str], str]:
    """Return what is expected of tokenizers, samples and generators, by kind and name.

    That is the first published figure of a row of a table; where there is none, the score in evidence/.
    """
    found: dict[tuple[str, str], str] = {}
    for table in study.tables.values():
        for row in table.rows:
            text = _published(table, row) or _kept(table, row, directory)
            if row.tokenizer is not None and text:
                found.setdefault(("tokenizers", row.tokenizer), text)
            if row.samples is not None and text:
                found.setdefault(("samples", row.samples), text)
                found.setdefault(("generators", study.samples[row.samples].generator), text)
    return found


def _published(table: Table, row: Row) -> str:
    figures = row.published.figures if row.published is not None else {}
    for column in table.columns:
        if column.metric in figures:
            return f"{column.label} {figures[column.metric].value:.{column.decimals}f} (published)"
    return ""


def _kept(table: Table, row: Row, directory: Path) -> str:
    kind, name = ("reconstruction", row.tokenizer) if row.tokenizer else ("samples", row.samples)
    path = directory / "evidence/scores" / kind / str(name) / "scores.json"
    if name is None or not path.is_file():
        return ""
    scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for column in table.columns:
        value = scores.get(column.metric)
        if column.metric in FIRST_SCORES and value is not None:
            return f"{column.label} {value:.{column.decimals}f} (evidence)"
    return ""


# ---------------------------------------------------------------------------------------------- onetok status


def status(study: Study, directory: Path) -> list[str]:
    """Return what to say of a study's artefacts, a line each."""
    running = running_jobs(directory)
    found = [find_state(job, directory, running) for job in all_jobs(study)]
    by_state = {state: [one for one in found if one.state == state] for state in State}
    made, total = len(by_state[State.MADE]), len(found)
    others = [f"{len(ones)} {state}" for state, ones in by_state.items() if ones and state != State.MADE]
    lines = [", ".join([f"{made} of {total} artefacts are made", *others])]
    for one in by_state[State.RUNNING]:
        lines.append(f"running: {one.job.stage} {one.job.name}: {_last(one.log, 1)[0]}")
    for one in by_state[State.FAILED]:
        lines.append(f"failed: {one.job.stage} {one.job.name}: {one.said}")
        lines.append(f"  log: {one.log.resolve()}, which ends with")
        lines += [f"    {line}" for line in _last(one.log, LAST_LINES)]
    for one in by_state[State.STALE]:
        lines.append(f"stale: {one.job.stage} {one.job.name}: {one.said}")
    lines += _waiting(by_state[State.WAITING])
    if made < total and not by_state[State.RUNNING]:
        where = "" if directory.resolve() == Path.cwd() else f" --study {directory}"
        lines.append(f"go on with: onetok make{where}")
    return lines


def _waiting(ones: list[Found]) -> Iterator[str]:
    for stage in dict.fromkeys(one.job.stage for one in ones):
        names = [one.job.name for one in ones if one.job.stage == stage]
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        yield f"not made: {stage} {', '.join(names[:NAMES])}{more}"


def _last(log: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not empty."""
    if not log.is_file():
        return ["no log yet"]
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [printable(line) for line in text.splitlines() if line.strip()]
    return lines[-count:] or ["its log is empty"]
