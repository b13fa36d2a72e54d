"""Receipts: a small deterministic file beside each artefact that proves what it was made from.

A receipt holds the stage, the name, the stage's version, the resolved params, the digests of the receipts of the
inputs, and the size and digest of every file written. No clock and no host name: the same run gives the same bytes.
It is written last, in one move, so an artefact without a receipt is not complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onetok.errors import OnetokError
from onetok.plan import Artefact, Job


def write_receipt(job: Job, study: Path) -> Path:
    """Hash what a job wrote and read, and leave the receipt.

    Raises OnetokError if an output is missing.
    """
    folder = study / job.artefact.folder
    receipt = {
        "stage": job.stage,
        "name": job.name,
        "version": job.version,
        "params": job.params,
        "inputs": {artefact.receipt: sha256(study / artefact.receipt) for artefact in job.inputs},
        "outputs": {
            path.relative_to(folder).as_posix(): {"sha256": sha256(path), "size": path.stat().st_size}
            for output in job.outputs
            for path in _files(folder / output)
        },
    }
    path = study / job.artefact.receipt
    temporary = path.with_suffix(".partial")
    temporary.write_text(
        json.dumps(receipt, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    temporary.replace(path)
    return path


def read_receipt(artefact: Artefact, study: Path) -> dict[str, Any]:
    """Return a receipt's content.

    Raises OnetokError if it is missing or not JSON.
    """
    path = study / artefact.receipt
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OnetokError(f"{path}: no such receipt; make it first: onetok make {artefact.receipt}") from None
    except json.JSONDecodeError as error:
        raise OnetokError(f"{path}: not JSON ({error}), expected a receipt") from None
    missing = sorted({"version", "params", "inputs", "outputs"} - content.keys())
    if missing:
        raise OnetokError(f"{path}: no {missing[0]!r}, expected a receipt")
    return content


def check_inputs(job: Job, study: Path) -> None:
    """Check, before a stage runs, that what it reads is there and has the sizes that the receipts say."""
    for artefact in job.inputs:
        receipt = read_receipt(artefact, study)
        problems = list(_output_problems(artefact, receipt, study, digests=False))
        if problems:
            raise OnetokError(problems[0])


def scratch_folder(job: Job, study: Path) -> Path:
    """Return where an interrupted run of a job keeps its state: another folder for other params or other inputs."""
    state = {"slice": job.slice, "inputs": {a.receipt: sha256(study / a.receipt) for a in job.inputs}}
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    return study / "results/scratch" / job.stage / job.name / digest


def verify(job: Job, study: Path, *, digests: bool) -> list[str]:
    """Return what is wrong with an artefact, one line a problem; `digests` reads every file, else sizes must do."""
    try:
        receipt = read_receipt(job.artefact, study)
    except OnetokError as error:
        return [str(error)]
    path = job.artefact.receipt
    problems = []
    if receipt["version"] != job.version:
        problems.append(f"{path}: version {receipt['version']} of {job.stage}, expected {job.version}")
    problems += [f"{path}: params.{line}" for line in _differences(receipt["params"], job.params)]
    for artefact in job.inputs:
        recorded, file = receipt["inputs"].get(artefact.receipt), study / artefact.receipt
        if not file.exists():
            problems.append(f"{path}: its input {artefact.receipt} is missing")
        elif recorded != sha256(file):
            problems.append(f"{path}: was made from another {artefact.receipt}")
    listed = {Path(name).parts[0] for name in receipt["outputs"]}
    problems += [f"{path}: lists no {output}" for output in job.outputs if output not in listed]
    problems += _output_problems(job.artefact, receipt, study, digests=digests)
    return problems


def _output_problems(
    artefact: Artefact, receipt: dict[str, Any], study: Path, *, digests: bool
) -> Iterator[str]:
    for name, expected in receipt["outputs"].items():
        path = study / artefact.folder / name
        if not path.exists():
            yield f"{path}: missing, but its receipt lists it"
        elif path.stat().st_size != expected["size"]:
            yield f"{path}: {path.stat().st_size} bytes, expected {expected['size']} (receipt)"
        elif digests and sha256(path) != expected["sha256"]:
            yield f"{path}: sha256 {sha256(path)[:12]}…, expected {expected['sha256'][:12]}… (receipt)"


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Yield one line for each leaf that differs."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            below = f"{path}.{key}" if path else key
            if key not in found or key not in expected:
                yield f"{below}: only in {'the receipt' if key in found else 'params'}"
            else:
                yield from _differences(found[key], expected[key], below)
    elif found != expected:
        yield f"{path}: made with {found!r}, params say {expected!r}"


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise OnetokError(f"{path}: the stage did not write it, but it is a declared output")
    if path.is_file():
        yield path
        return
    # Snakemake leaves a time stamp in folders that it declares.
    yield from sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".snakemake_timestamp")


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
