"""The machines on which results and evidence were made, from the run.json files of jobs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onetok import durable
from onetok.errors import OnetokError
from onetok.spread import MACHINES, first_problem
from onetok.study.plan import Job
from onetok.study.schema.base import Count, Strict


class _Counted(Strict):
    """A machine, and how many jobs ran on it."""

    jobs: Count
    machine: dict[str, Any]


class _Machines(Strict):
    """The content of evidence/machine.json."""

    machines: list[_Counted]


def record_of(job: Job, directory: Path) -> dict[str, Any] | None:
    """Return the record of the machine that a job ran on (onetok.stages.common.machine); None if there is none."""
    path = directory / "results/logs" / job.stage / job.name / "run.json"
    try:
        machine = json.loads(path.read_text(encoding="utf-8"))["machine"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return machine if isinstance(machine, dict) else None


def machines_of(jobs: Iterable[Job], directory: Path) -> list[dict[str, Any]]:
    """Return every machine that jobs ran on, that of most jobs first: {"jobs": number, "machine": record}."""
    counted = Counter(
        json.dumps(record, sort_keys=True)
        for job in jobs
        if (record := record_of(job, directory)) is not None
    )
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [{"jobs": count, "machine": json.loads(text)} for text, count in ordered]


def write_machines(jobs: Iterable[Job], directory: Path, path: Path) -> None:
    """Write the machines on which the jobs ran to `path`, in the form of evidence/machine.json."""
    durable.write_json(path, {"machines": machines_of(jobs, directory)})


def read_machines(path: Path) -> list[dict[str, Any]]:
    """Return the machines of evidence/machine.json, none if it is missing. Raises OnetokError for a damaged file."""
    try:
        content = _Machines.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise OnetokError(
            f"{path}: {first_problem(error)}; onetok publish did not write this, bring it back from git"
        ) from None
    return [machine.model_dump() for machine in content.machines]


def differences(jobs: Iterable[Job], directory: Path) -> list[str]:
    """Return the differences between the machine of most jobs in results/ and that of the evidence, a line each."""
    evidence, ours = read_machines(directory / MACHINES), machines_of(jobs, directory)
    if not evidence:
        return [
            f"machine: {directory / MACHINES} is not there, so what the evidence was made on is not known"
        ]
    if not ours:
        return ["machine: results/logs hold no run.json, so what results/ were made on is not known"]
    found = list(_unlike(ours[0]["machine"], evidence[0]["machine"]))
    lines = [f"machine: {'as that of the evidence' if not found else 'differs from that of the evidence'}"]
    lines += [f"  {line}" for line in found]
    for whose, several in (("results", ours), ("evidence", evidence)):
        if len(several) > 1:
            lines.append(f"  {whose}: made on {len(several)} machines; that of most jobs is compared")
    return lines


def _unlike(ours: Any, evidence: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(evidence, dict):
        for key in [*ours, *(key for key in evidence if key not in ours)]:
            below = f"{path} {key}".strip()
            if key in ours and key in evidence:
                yield from _unlike(ours[key], evidence[key], below)
            else:
                yield f"{below}: {_shown(ours.get(key))}, evidence {_shown(evidence.get(key))}"
    elif ours != evidence:
        yield f"{path}: {_shown(ours)}, evidence {_shown(evidence)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
