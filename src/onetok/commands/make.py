"""`onetok make` and `onetok spread`: the jobs of a study, run by Snakemake."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from onetok.commands.parsers import Commands, add_command, add_released
from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.plan import Artefact, artefact_at, jobs_behind, released_targets
from onetok.study.receipts import Made, verify
from onetok.study.schema.study import Study

REPOSITORY = Path(__file__).resolve().parents[3]


def add(commands: Commands) -> None:
    command = add_command(
        commands,
        "make",
        make,
        "Make targets with Snakemake: the repository's Snakefile in the study's folder. Targets are paths below"
        " results/ or tables as family/variant (default: every table and figure); options of Snakemake, such as -n or"
        " --cores 1, are passed on.",
    )
    command.usage = "onetok make [--study STUDY] [--released] [TARGET ...] [options of Snakemake]"
    command.allow_abbrev = False
    add_released(command, "make these tables without the rows that have to be trained")
    add_command(
        commands,
        "spread",
        spread_study,
        "Run a study under other seeds and instruction sets, and keep its figures in evidence/spread/.",
    ).add_argument("--runs", nargs="+", metavar="NAME", help="of the study's spread in params (default: all)")


def make(arguments: argparse.Namespace) -> int:
    asked: list[str] = arguments.targets
    if (arguments.study / "params").is_dir():
        asked = receipts_of(load_study(arguments.study), arguments.study, asked, released=arguments.released)
    if arguments.released and not any("/" in word or word == "released" for word in asked):
        asked = ["released", *asked]
    if is_made(arguments.study, asked):
        print("nothing to be done: receipts, params and sizes agree")
        return 0
    return run_snakemake(arguments.study, asked)


def receipts_of(study: Study, directory: Path, asked: list[str], *, released: bool) -> list[str]:
    """Return what is asked for as Snakemake's targets and options: tables that stand there by name as receipts.

    Words without a slash are targets such as `all`, options of Snakemake, or values of these.

    Raises OnetokError where the rows of released weights of something else, or of a table without any, are asked for.
    """
    if not released:
        return [_table(study, "tables", word) or word for word in asked]
    found = []
    for word in asked:
        table = _table(study, "released", word)
        if table is None and "/" in word and not word.startswith("-"):
            known = ", ".join(study.tables)
            raise OnetokError(f"{word}: no table, expected one of {known}, or all (--released)")
        if table is not None:
            made = Made(study, directory)
            if artefact_at(table) not in released_targets(study, made):
                raise OnetokError(f"{word}: all of its rows have to be trained, and none of them is made")
        found.append("released" if word == "all" else table or word)
    return found


def _table(study: Study, kind: str, word: str) -> str | None:
    """Return the receipt of a table that is named by its name or a receipt; None for anything else."""
    artefact = artefact_at(word) or Artefact(kind="tables", name=word)
    if artefact.kind not in ("tables", "released") or artefact.name not in study.tables:
        return None
    return Artefact(kind=kind, name=artefact.name).receipt


def is_made(directory: Path, targets: list[str]) -> bool:
    """Return whether all targets are receipts that hold, down to the data: then Snakemake need not start.

    `dvc repro` asks for every artefact one by one.
    """
    artefacts = [artefact_at(target) for target in targets]
    wanted = [artefact for artefact in artefacts if artefact is not None]
    if not wanted or len(wanted) < len(artefacts) or not (directory / "params").is_dir():
        return False
    study = load_study(directory)
    jobs = jobs_behind(study, wanted, Made(study, directory))
    return not any(line for job in jobs for line in verify(job, directory, digests=False))


def run_snakemake(
    study: Path,
    options: list[str],
    *,
    environment: Mapping[str, str | None] | None = None,
    keep_open: tuple[int, ...] = (),
) -> int:
    """Run Snakemake on a study and return its exit status.

    `environment` holds variables that it and its jobs get, None for those that they must not have.
    """
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--directory", str(study), *options]
    wanted = {**os.environ, **(environment or {})}
    given = {name: value for name, value in wanted.items() if value is not None}
    process = subprocess.Popen(command, env=given, pass_fds=keep_open)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Snakemake gets it, too, and ends when its jobs have


def touch(study: Path, targets: list[str]) -> int:
    """Tell Snakemake that targets (none: all of the study) and what they are made from are made."""
    return run_snakemake(study, ["--touch", "--forceall", "--quiet", "all", "--", *targets])


def spread_study(arguments: argparse.Namespace) -> int:
    from onetok.spread.runs import spread

    def start(folder: Path, targets: list[str], environment: Mapping[str, str | None], lock: int) -> int:
        # Snakemake's own lock outlives a kill; this one does not.
        return run_snakemake(folder, ["--nolock", *targets], environment=environment, keep_open=(lock,))

    return spread(arguments.study, arguments.runs, start)
