"""Adoption of results that were made elsewhere and copied into results/.

Snakemake decides what to run by file times, which change when a folder is copied, and by its own records, which are not
copied with it. Receipts hold digests. Artefacts that verify against them, with all their inputs, need not be made
again, and Snakemake is told that they are up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from onetok.study.load import load_study
from onetok.study.plan import Artefact, all_jobs
from onetok.study.receipts import verify

REFUSED = "receipt.refused.json"  # the new name of a receipt whose artefact does not verify


class Adoptable(NamedTuple):
    """Which of a study's results can be adopted."""

    verified: list[str]  # receipts of artefacts that verify, with all their inputs
    refused: list[str]  # existing receipts of artefacts that do not verify
    left: list[str]  # a line for every artefact that has to be made


def find_adoptable(study: Path) -> Adoptable:
    """Verify all results of a study against their receipts, which reads every file."""
    verified: set[Artefact] = set()
    refused, left = [], []
    for job in all_jobs(load_study(study)):  # in topological order: inputs come first
        missing = next((needed for needed in job.inputs if needed not in verified), None)
        problems = verify(job, study, digests=True)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            left.append(f"{job.artefact.folder}: {problems[0]}{more}")
            if (study / job.artefact.receipt).exists():
                refused.append(job.artefact.receipt)
        elif missing is not None:
            left.append(
                f"{job.artefact.folder}: verifies, but {missing.folder}, which it is made from, does not"
            )
        else:
            verified.add(job.artefact)
    return Adoptable(sorted(artefact.receipt for artefact in verified), refused, left)


def set_aside(study: Path, receipts: list[str]) -> None:
    """Rename receipts, so that Snakemake makes their artefacts again, which file times alone may not cause."""
    for receipt in receipts:
        path = study / receipt
        path.replace(path.with_name(REFUSED))
