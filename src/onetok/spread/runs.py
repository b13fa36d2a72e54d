"""Repeats a study with other seeds and instruction sets, and records the scores of each run.

A run is a study of its own in results/spread/<run>/. Its params/ are those of the study with every seed of training,
initialisation and sampling raised by the run's offset; seeds of data are unchanged. Snakemake executes it, so a run
that was killed is resumed. Scores that are recorded already (onetok.spread.kept) are not made again.
"""

from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from ruamel.yaml import YAML

from onetok import durable
from onetok.errors import OnetokError, nearest
from onetok.spread.kept import (
    KeptRun,
    KeptScore,
    digest_of,
    key_of,
    read_run,
    score_chains,
    stale,
    the_spread,
    write_run,
)
from onetok.spread.machines import record_of
from onetok.study.load import FOLDERS, load_study
from onetok.study.plan import Artefact, Job, jobs_behind
from onetok.study.receipts import verify
from onetok.study.references import annotations_of
from onetok.study.schema.base import FromStudy, RaisedBySpread
from onetok.study.schema.spreads import Spread, SpreadRun
from onetok.study.schema.study import Study

# Environment variables that limit the instruction sets of PyTorch and oneDNN, by the name of the limit in params.
ENVIRONMENTS = {
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "native": {},
}
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
Model = TypeVar("Model", bound=BaseModel)
# (study's folder, targets, environment variables to set (None: to unset), lock's file descriptor) → exit status
Start = Callable[[Path, list[str], Mapping[str, str | None], int], int]


def spread(directory: Path, names: list[str] | None, start: Start) -> int:
    """Make the named runs (all for None) one after the other, record the scores of each, and return the worst status.

    Raises OnetokError for a study without a spread in params, and for names of runs that it does not have.
    """
    study = load_study(directory)
    settings = the_spread(study)
    if settings is None:
        raise OnetokError(
            f"{directory / 'params'}: no spread in benchmarks/; docs/how-to/spread.md says how to write one"
        )
    worst = 0
    for run in _chosen(settings, names):
        worst = max(worst, _make(directory, study, run, start))
    return worst


def _chosen(settings: Spread, names: list[str] | None) -> list[SpreadRun]:
    known = {run.name: run for run in settings.runs}
    for name in names or ():
        if name not in known:
            raise OnetokError(f"--runs: no run named {name!r} in the study's spread; {nearest(name, known)}")
    return [known[name] for name in names] if names else list(settings.runs)


def _make(directory: Path, study: Study, run: SpreadRun, start: Start) -> int:
    digests, folder = score_chains(study), directory / "results/spread" / run.name
    with _locked(folder) as lock:
        place = Place(folder, write_params(directory, study, run, folder))
        kept = read_run(directory, run)
        if run.seed_offset == 0:  # the study's own results have the same seeds and may belong to this run
            kept = harvest(Place(directory, study), digests, kept)
        kept = harvest(place, digests, kept)
        missing, status = stale(digests, kept), 0
        if missing:
            print(f"{run.name}: {len(missing)} of {len(digests)} scores to be made", flush=True)
            environment = {name: ENVIRONMENTS[run.instructions].get(name) for name in LIMITS}
            status = start(folder, [artefact.receipt for artefact in missing], environment, lock)
            kept = harvest(place, digests, kept)
            missing = stale(digests, kept)
        current = {key_of(artefact) for artefact in digests}
        scores = {key: score for key, score in kept.scores.items() if key in current}
        path = write_run(directory, kept.model_copy(update={"scores": scores}))
    left = f", {len(missing)} missing: {', '.join(map(key_of, missing))}" if missing else ""
    made = len(digests) - len(missing)
    print(f"{run.name}: {path} keeps {made} scores of today's params{left}", flush=True)
    return status or int(bool(missing))


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Lock a run while it is made and yield the lock's file descriptor.

    Snakemake inherits the lock; the operating system releases it when both processes have ended. Raises OnetokError
    where another process has the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OnetokError(f"{folder}: another onetok spread is making this run; wait for it") from None
        yield stream.fileno()


# ---------------------------------------------------------------------------------------------- params of a run


def write_params(directory: Path, study: Study, run: SpreadRun, folder: Path) -> Study:
    """Write the params of a run, and return them. Files that are up to date are not rewritten.

    Raises OnetokError if the written params differ when they are read again.
    """
    raised = params_of(study, run, directory)
    files = params_files(raised)
    root = folder / "params"
    for path in root.rglob("*.yaml") if root.is_dir() else ():
        if path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_text(path, text)
    written = load_study(folder)
    if written != raised:
        raise OnetokError(f"{root}: what was written reads otherwise, expected the params of run {run.name}")
    return written


def params_of(study: Study, run: SpreadRun, directory: Path) -> Study:
    """Return the params of a run: the study's with raised seeds, without its spread, and with absolute paths."""
    raised = _replaced(study, RaisedBySpread(), lambda seed: seed + run.seed_offset)
    found = _replaced(raised, FromStudy(), lambda path: str((directory / path).absolute()))
    return found.model_copy(update={"spreads": {}})


def params_files(study: Study) -> dict[str, str]:
    """Return the params files of a study: folder/family.yaml → YAML."""
    folders = {kind: folder for folder, kinds in FOLDERS.items() for kind in kinds}
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, entries in study.model_dump(mode="json").items():
        for name, entry in entries.items():
            family, variant = name.split("/")
            families = content.setdefault(f"{folders[kind]}/{family}.yaml", {}).setdefault(kind, {})
            families.setdefault(family, {})[variant] = entry
    return {name: _yaml(kinds) for name, kinds in content.items()}


def _yaml(content: Mapping[str, Any]) -> str:
    """Return YAML 1.2 that onetok.study.yaml_files reads back to the same content."""
    stream = io.StringIO()
    YAML().dump(content, stream)
    return stream.getvalue()


def _replaced(model: Model, marker: object, change: Callable[[Any], Any]) -> Model:
    """Return a model in which `change` is applied to every field with this marker, at any depth."""

    def below(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return _replaced(value, marker, change)
        if isinstance(value, tuple):
            return tuple(below(item) for item in value)
        return {key: below(item) for key, item in value.items()} if isinstance(value, dict) else value

    fields = {name: (info, getattr(model, name)) for name, info in type(model).model_fields.items()}
    update = {
        name: change(value) if marker in annotations_of(info) and value is not None else below(value)
        for name, (info, value) in fields.items()
    }
    return model.model_copy(update=update)


# ---------------------------------------------------------------------------------------------- harvest


@dataclass(frozen=True)
class Place:
    """A folder with results/, and the params that its results should have been made with."""

    directory: Path
    study: Study


def harvest(place: Place, digests: Mapping[Artefact, str], kept: KeptRun) -> KeptRun:
    """Return the record of a run with further scores of a place added.

    These are scores that the record lacks, whose receipts verify with all their inputs, and whose jobs all ran under
    the instruction set of the run.
    """
    scores, machines = dict(kept.scores), dict(kept.machines)
    sound: dict[Artefact, bool] = {}
    for artefact in stale(digests, kept):
        jobs = list(jobs_behind(place.study, [artefact]))
        if not (place.directory / artefact.receipt).exists():
            continue
        if not all(_is_sound(job, place, kept.run, sound) for job in jobs):
            continue
        machine = record_of(jobs[-1], place.directory)
        assert machine is not None  # _is_sound requires it
        digest = digest_of(machine)[:12]
        machines[digest] = machine
        content = json.loads((place.directory / artefact.folder / "scores.json").read_text(encoding="utf-8"))
        scores[key_of(artefact)] = KeptScore(chain=digests[artefact], machine=digest, figures=content)
    return kept.model_copy(update={"scores": scores, "machines": machines})


def _is_sound(job: Job, place: Place, run: SpreadRun, known: dict[Artefact, bool]) -> bool:
    """Return whether a job ran under the instruction set of the run and its receipt verifies; `known` is a cache."""
    if job.artefact not in known:
        machine = record_of(job, place.directory)
        limits = {} if machine is None else machine["instructions"]["limits"]
        known[job.artefact] = (
            machine is not None
            and {name: limits[name] for name in LIMITS if name in limits} == ENVIRONMENTS[run.instructions]
            and not verify(job, place.directory, digests=False)
        )
    return known[job.artefact]
