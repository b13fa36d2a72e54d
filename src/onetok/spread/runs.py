"""Running a study again, under other seeds and instruction sets, and keeping what its scores say.

A run is a study of its own, results/spread/<run>/ with params/ written out of the study's: every seed of training,
initialisation and sampling raised by the run's offset, those of data as they are. Snakemake runs it, so a run that was
killed goes on where it stopped; what is kept already (onetok.spread.kept) is not asked for.
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
from onetok.params import FromStudy, RaisedBySpread, Spread, SpreadRun, Study
from onetok.plan import Artefact, Job, jobs_behind
from onetok.receipts import verify
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
from onetok.study import FOLDERS, annotations_of, load_study

# What torch and oneDNN read at their start: the widest instruction set that they may use.
ENVIRONMENTS = {
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "native": {},
}
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
Model = TypeVar("Model", bound=BaseModel)
# (folder of a study, targets, what the environment holds instead; None: not at all, lock) → exit status of Snakemake
Start = Callable[[Path, list[str], Mapping[str, str | None], int], int]


def spread(directory: Path, names: list[str] | None, start: Start) -> int:
    """Make every run that is asked for, one after the other, and keep its scores after each.

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
        if run.seed_offset == 0:  # then the study's own results may be this run
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
    """Hold a run while it is made: Snakemake inherits the lock, and the system frees it whoever is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OnetokError(f"{folder}: another onetok spread is making this run; wait for it") from None
        yield stream.fileno()


# ---------------------------------------------------------------------------------------------- params of a run


def write_params(directory: Path, study: Study, run: SpreadRun, folder: Path) -> Study:
    """Write the params of a run, and return them. Files that are as they should be are not touched."""
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
    """Return a study with the seeds of a run; paths that were relative to the study's folder are absolute."""
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
    """Return YAML 1.2, which onetok.reading reads back as it was."""
    stream = io.StringIO()
    YAML().dump(content, stream)
    return stream.getvalue()


def _replaced(model: Model, marker: object, change: Callable[[Any], Any]) -> Model:
    """Return a model with every field that carries a marker changed, however deep it is."""

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
    """Where results are, and the params that they should have been made with."""

    directory: Path
    study: Study


def harvest(place: Place, digests: Mapping[Artefact, str], kept: KeptRun) -> KeptRun:
    """Return what is kept of a run with the scores added that a place holds: those that are not kept yet, whose
    receipts hold down to the data, and whose jobs all ran under the instruction set of the run."""
    scores, machines = dict(kept.scores), dict(kept.machines)
    sound: dict[Artefact, bool] = {}
    for artefact in stale(digests, kept):
        jobs = list(jobs_behind(place.study, [artefact]))
        if not (place.directory / artefact.receipt).exists():
            continue
        if not all(_is_sound(job, place, kept.run, sound) for job in jobs):
            continue
        machine = record_of(jobs[-1], place.directory)
        assert machine is not None  # else it would not be sound
        digest = digest_of(machine)[:12]
        machines[digest] = machine
        content = json.loads((place.directory / artefact.folder / "scores.json").read_text(encoding="utf-8"))
        scores[key_of(artefact)] = KeptScore(chain=digests[artefact], machine=digest, figures=content)
    return kept.model_copy(update={"scores": scores, "machines": machines})


def _is_sound(job: Job, place: Place, run: SpreadRun, known: dict[Artefact, bool]) -> bool:
    if job.artefact not in known:
        machine = record_of(job, place.directory)
        limits = {} if machine is None else machine["instructions"]["limits"]
        known[job.artefact] = (
            machine is not None
            and {name: limits[name] for name in LIMITS if name in limits} == ENVIRONMENTS[run.instructions]
            and not verify(job, place.directory, digests=False)
        )
    return known[job.artefact]
