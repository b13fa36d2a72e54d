"""What is kept of the runs of a spread: evidence/spread/<run>.json, in git.

    {"run": {"name": …, "seed_offset": …, "instructions": …},
     "machines": {digest: what `onetok.machine` said there},
     "scores": {"scores/samples/maskgit/tiny": {"chain": …, "machine": digest, "figures": {metric: figure}}, …}}

`chain` is a digest of all that the figures follow from but seeds and machine: params and stage versions of the job and
of all jobs behind it, with the study's own seeds. So it is the same for every run on every machine; a later change of
params or versions makes exactly those entries stale whose chain it is in.
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
from onetok.metrics import names
from onetok.params import Row, Spread, SpreadRun, Strict, Study, Table
from onetok.plan import Artefact, all_jobs
from onetok.spread import KEPT, first_problem
from onetok.spread.intervals import Interval, Runs, intervals

Figure = tuple[Artefact, str]  # the scores and a metric in them


class KeptScore(Strict):
    chain: str
    machine: str
    figures: dict[str, float | None]

    @field_validator("figures")
    @classmethod
    def _images_are_counted(cls, figures: dict[str, float | None]) -> dict[str, float | None]:
        if "images" not in figures:
            raise ValueError("no figure named 'images', of which every score has one")
        return figures


class KeptRun(Strict):
    """The file of one run."""

    run: SpreadRun
    machines: dict[str, dict[str, Any]]
    scores: dict[str, KeptScore]


def read_run(study: Path, run: SpreadRun) -> KeptRun:
    """Return what is kept of a run: nothing where there is no file, or one of other seeds or instruction sets.

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
    """Write the file of a run, without machines that no score names any more."""
    used = {score.machine for score in kept.scores.values()}
    machines = {digest: machine for digest, machine in kept.machines.items() if digest in used}
    path = study / KEPT / f"{kept.run.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_json(path, kept.model_copy(update={"machines": machines}).model_dump(mode="json"))
    return path


def digest_of(content: Any) -> str:
    """Return the sha256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def chains(study: Study) -> dict[Artefact, str]:
    """Return the digest of every artefact's chain, for all that the tables and figures of a study pull."""
    found: dict[Artefact, str] = {}
    for job in all_jobs(study):  # inputs come first
        behind = {needed.receipt: found[needed] for needed in job.inputs}
        found[job.artefact] = digest_of({"slice": job.slice, "inputs": behind})
    return found


def scores_of(row: Row) -> Artefact | None:
    """Return the scores that a row of a table shows."""
    if row.tokenizer is not None:
        return Artefact(kind="scores/reconstruction", name=row.tokenizer)
    return Artefact(kind="scores/samples", name=row.samples) if row.samples is not None else None


def score_artefacts(study: Study) -> list[Artefact]:
    """Return the scores that the tables of a study show, each once."""
    rows = (row for table in study.tables.values() for row in table.rows)
    return list(dict.fromkeys(scores for row in rows if (scores := scores_of(row)) is not None))


def key_of(artefact: Artefact) -> str:
    """Return how the files of runs name scores."""
    return f"{artefact.kind}/{artefact.name}"


def score_chains(study: Study) -> dict[Artefact, str]:
    """Return the digest of the chain of every score that the tables of a study show."""
    digests = chains(study)
    return {artefact: digests[artefact] for artefact in score_artefacts(study)}


def stale(digests: Mapping[Artefact, str], kept: KeptRun) -> list[Artefact]:
    """Return the scores, of all whose chains' digests are given, that a run has not measured since these changed."""
    held = {key: score.chain for key, score in kept.scores.items()}
    return [artefact for artefact, digest in digests.items() if held.get(key_of(artefact)) != digest]


def the_spread(study: Study) -> Spread | None:
    """Return the study's spread; params hold one at most."""
    return next(iter(study.spreads.values()), None)


def kept_runs(study: Study, directory: Path) -> list[KeptRun]:
    """Return what the runs of a study hold that is not stale, those without anything left out."""
    spread, digests, found = the_spread(study), score_chains(study), []
    for run in spread.runs if spread is not None else ():
        kept = read_run(directory, run)
        old = {key_of(artefact) for artefact in stale(digests, kept)}
        valid = {key: score for key, score in kept.scores.items() if key not in old}
        if valid:
            found.append(kept.model_copy(update={"scores": valid}))
    return found


def figures(study: Study, runs: list[KeptRun]) -> dict[Figure, Runs]:
    """Return every figure that a table of the study shows, in the runs that hold it."""
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
    held = [run.scores[key_of(artefact)].figures for run in runs if key_of(artefact) in run.scores]
    values = [value for scores in held if (value := scores.get(metric)) is not None]
    images = [scores["images"] for scores in held]
    return Runs(
        measure=names.measure(metric),
        group=f"{artefact.kind} {names.family(metric)}",
        values=tuple(values),
        images=int(min(filter(None, images), default=1)),
    )


def kept_intervals(study: Study, runs: list[KeptRun]) -> dict[Figure, Interval]:
    """Return where every figure of one more run lies; none for those that fewer than two runs hold."""
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
