"""The record of a spread's runs: evidence/spread/<run>.json, in git.

    {"run": {"name": …, "seed_offset": …, "instructions": …},
     "machines": {digest: record of `onetok.stages.common.machine`},
     "scores": {"scores/samples/maskgit/tiny": {"chain": …, "machine": digest, "figures": {metric: figure}}, …}}

`chain` is a digest of everything that determines the figures except a run's seeds and machine: the params and stage
versions of the job and of all jobs that it depends on, with the study's own seeds. It is the same for every run on
every machine. A later change of params or versions makes exactly those entries stale that depend on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from onetok import durable
from onetok.errors import OnetokError
from onetok.spread import KEPT, first_problem
from onetok.spread.intervals import Interval, Runs, intervals
from onetok.study import metric_names
from onetok.study.plan import Artefact, all_jobs, scores_of
from onetok.study.schema.base import Strict
from onetok.study.schema.spreads import Spread, SpreadRun
from onetok.study.schema.study import Study
from onetok.study.schema.tables import Table

Figure = tuple[Artefact, str]  # the scores and a metric in them


class KeptScore(Strict):
    """The recorded scores of one artefact in one run."""

    chain: str
    machine: str  # digest of the machine's record
    figures: dict[str, float | None]  # by metric

    @field_validator("figures")
    @classmethod
    def _images_are_counted(cls, figures: dict[str, float | None]) -> dict[str, float | None]:
        if "images" not in figures:
            raise ValueError("no figure named 'images', of which every score has one")
        return figures


class KeptRun(Strict):
    """The content of the file of one run."""

    run: SpreadRun
    machines: dict[str, dict[str, Any]]  # records by digest
    scores: dict[str, KeptScore]  # by the artefact's key


def read_run(study: Path, run: SpreadRun) -> KeptRun:
    """Return the record of a run: empty where there is no file, or one of other seeds or instruction sets.

    Raises OnetokError for a file that is damaged.
    """
    path = study / KEPT / f"{run.name}.json"
    if not path.exists():
        return KeptRun(run=run, machines={}, scores={})
    try:
        kept = KeptRun.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise OnetokError(
            f"{path}: {first_problem(error)}; bring it back from git, or remove it and run onetok spread"
        ) from None
    return kept if kept.run == run else KeptRun(run=run, machines={}, scores={})


def write_run(study: Path, kept: KeptRun) -> Path:
    """Write the record of a run, without machines that no score refers to, and return its path."""
    used = {score.machine for score in kept.scores.values()}
    machines = {digest: machine for digest, machine in kept.machines.items() if digest in used}
    path = study / KEPT / f"{kept.run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_json(path, kept.model_copy(update={"machines": machines}).model_dump(mode="json"))
    return path


def digest_of(content: Any) -> str:
    """Return the sha256 of a value as canonical JSON."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def chains(study: Study) -> dict[Artefact, str]:
    """Return the chain digest of every artefact that the tables and figures of a study depend on."""
    found: dict[Artefact, str] = {}
    for job in all_jobs(study):  # inputs come first
        behind = {needed.receipt: found[needed] for needed in job.inputs}
        found[job.artefact] = digest_of({"slice": job.slice, "inputs": behind})
    return found


def score_artefacts(study: Study) -> list[Artefact]:
    """Return the artefacts of all scores that the tables of a study show, without repetition."""
    rows = (row for table in study.tables.values() for row in table.rows)
    return list(dict.fromkeys(scores for row in rows if (scores := scores_of(row)) is not None))


def key_of(artefact: Artefact) -> str:
    """Return the key of an artefact's scores in the record of a run."""
    return f"{artefact.kind}/{artefact.name}"


def score_chains(study: Study) -> dict[Artefact, str]:
    """Return the chain digest of all scores that the tables of a study show."""
    digests = chains(study)
    return {artefact: digests[artefact] for artefact in score_artefacts(study)}


def stale(digests: Mapping[Artefact, str], kept: KeptRun) -> list[Artefact]:
    """Return the artefacts whose scores a run's record does not have with the present chain digest."""
    recorded = {key: score.chain for key, score in kept.scores.items()}
    return [artefact for artefact, digest in digests.items() if recorded.get(key_of(artefact)) != digest]


def the_spread(study: Study) -> Spread | None:
    """Return the study's spread, of which params have at most one."""
    return next(iter(study.spreads.values()), None)


def kept_runs(study: Study, directory: Path) -> list[KeptRun]:
    """Return the records of a study's runs without stale scores; runs without any score are left out."""
    spread, digests, found = the_spread(study), score_chains(study), []
    for run in spread.runs if spread is not None else ():
        kept = read_run(directory, run)
        old = {key_of(artefact) for artefact in stale(digests, kept)}
        valid = {key: score for key, score in kept.scores.items() if key not in old}
        if valid:
            found.append(kept.model_copy(update={"scores": valid}))
    return found


def figures(study: Study, runs: list[KeptRun]) -> dict[Figure, Runs]:
    """Return every figure that a table of the study shows, with its values in the runs that have it."""
    shown = {
        (scores, column.metric)
        for table in study.tables.values()
        for row in table.rows
        for column in table.columns
        if (scores := scores_of(row)) is not None
    }
    return {figure: _in_runs(figure, runs) for figure in sorted(shown, key=lambda f: (key_of(f[0]), f[1]))}


def _in_runs(figure: Figure, runs: list[KeptRun]) -> Runs:
    artefact, metric = figure
    recorded = [run.scores[key_of(artefact)].figures for run in runs if key_of(artefact) in run.scores]
    values = [value for scores in recorded if (value := scores.get(metric)) is not None]
    images = [scores["images"] for scores in recorded]
    return Runs(
        measure=metric_names.measure(metric),
        group=f"{artefact.kind} {metric_names.family(metric)}",
        values=tuple(values),
        images=int(min(filter(None, images), default=1)),
    )


def kept_intervals(study: Study, runs: list[KeptRun]) -> dict[Figure, Interval]:
    """Return the prediction interval of every figure that two or more runs have."""
    spread = the_spread(study)
    if spread is None:
        return {}
    return intervals(figures(study, runs), chance=spread.chance, gate=spread.gate)


def table_intervals(table: Table, found: Mapping[Figure, Interval]) -> Iterator[tuple[str, str, Interval]]:
    """Yield (label, metric, interval) of the cells of a table that have one."""
    for row in table.rows:
        scores = scores_of(row)
        for column in table.columns:
            if scores is not None and (scores, column.metric) in found:
                yield row.label, column.metric, found[scores, column.metric]
