"""The two doors between a study's results/ and what git and DVC keep.

publish   verify receipts → dvc commit → dvc push → copy receipts, scores, tables and pictures to evidence/, and
          say there which machines made them; evidence/spread/ stays as it is
restore   dvc pull → copy evidence/ into results/ → verify receipts   (then Snakemake is told that all is made)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from onetok.errors import OnetokError
from onetok.plan import Job, all_jobs
from onetok.receipts import verify
from onetok.spread import KEPT, MACHINES
from onetok.spread.machines import write_machines
from onetok.study import load_study

# Small files that git keeps beside the receipts; everything else is payload and goes to DVC.
EVIDENCE = (
    "accuracy.json",
    "contact-sheet.png",
    "figure.png",
    "report.json",
    "reconstructions.png",
    "scalars.csv",
    "scores.json",
    "table.csv",
    "table.md",
    "table.tex",
)


def publish(study: Path, *, push: bool) -> None:
    """Raises OnetokError if anything in results/ is not what its receipt says."""
    jobs = list(all_jobs(load_study(study)))
    _verify_all(jobs, study)
    _check_repository(study)
    dvc_file = str(study / "dvc.yaml")
    _dvc("commit", "--force", dvc_file)
    if push:
        _dvc("push", dvc_file)
    evidence = study / "evidence"
    for old in evidence.iterdir() if evidence.exists() else ():
        if old.name == KEPT.name:  # of runs that are elsewhere; onetok spread alone writes it
            continue
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    for source in _kept(jobs, study / "results"):
        target = evidence / source.relative_to(study / "results")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_machines(jobs, study)
    print(
        f"{evidence}: receipts, scores, tables and pictures of {len(jobs)} artefacts; commit it with dvc.lock"
    )


def restore(study: Path) -> None:
    """Raises OnetokError if there is no evidence, or if what came back is not what the receipts say."""
    evidence = study / "evidence"
    if not evidence.is_dir():
        raise OnetokError(f"{evidence}: no such folder; nothing was published for this study")
    _check_repository(study)
    command = [sys.executable, "-m", "dvc", "remote", "list"]
    if not subprocess.run(
        command, cwd=study, capture_output=True, encoding="utf-8", check=False
    ).stdout.strip():
        raise OnetokError(
            "dvc: no remote to pull from; dvc remote add --local --default NAME PLACE (docs/how-to/dvc.md)"
        )
    _dvc("pull", "--force", str(study / "dvc.yaml"))
    shutil.copytree(evidence, study / "results", dirs_exist_ok=True, ignore=_not_of_results)
    _verify_all(list(all_jobs(load_study(study))), study)


def _not_of_results(folder: str, names: list[str]) -> list[str]:
    """Return what evidence/ holds beside the artefacts: the runs of the spread, and the machines."""
    beside = (KEPT, MACHINES)
    return [name for name in names if (Path(folder).name, name) in {(p.parent.name, p.name) for p in beside}]


def _kept(jobs: list[Job], results: Path) -> Iterator[Path]:
    for job in jobs:
        folder = results.parent / job.artefact.folder
        yield folder / "receipt.json"
        yield from (folder / output for output in job.outputs if output in EVIDENCE)


def _verify_all(jobs: list[Job], study: Path) -> None:
    problems = [line for job in jobs for line in verify(job, study, digests=True)]
    if problems:
        raise OnetokError(
            "\n".join(["results are not what their receipts say:", *(f"  {line}" for line in problems)])
        )


def _check_repository(study: Path) -> None:
    folders = (study.resolve(), *study.resolve().parents)
    if not any((folder / ".git").exists() for folder in folders):
        raise OnetokError(
            f"{study.resolve()}: in no git repository, which DVC needs; clone the project, or where it came as "
            "an archive, `git init` and commit at its root"
        )


def _dvc(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode:
        raise OnetokError(f"dvc {' '.join(arguments)} failed; its own message is above")
