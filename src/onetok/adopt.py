"""Results that were made elsewhere, taken over as they are.

Snakemake compares times of files, which change when a folder is copied, and its own records, which are not copied with
it. Receipts travel: what verifies by its digests, down to the data, is as good as made here, and Snakemake is told so.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from onetok.plan import Artefact, all_jobs
from onetok.receipts import verify
from onetok.study import load_study

REFUSED = "receipt.refused.json"  # a receipt that did not hold


class Standing(NamedTuple):
    """What of a study's results can be taken over."""

    verified: list[str]  # receipts of artefacts that verify, with all that they are made from
    refused: list[str]  # receipts that are there, of artefacts that do not verify
    left: list[str]  # a line for every artefact that is not whole


def standing(study: Path) -> Standing:
    """Read every file of a study's results and say which artefacts are what their receipts say."""
    whole: set[Artefact] = set()
    refused, left = [], []
    for job in all_jobs(load_study(study)):  # inputs before what reads them
        missing = next((needed for needed in job.inputs if needed not in whole), None)
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
            whole.add(job.artefact)
    return Standing(sorted(artefact.receipt for artefact in whole), refused, left)


def set_aside(study: Path, receipts: list[str]) -> None:
    """Rename receipts, so that their artefacts are made again: times alone need not say that they are wrong."""
    for receipt in receipts:
        path = study / receipt
        path.replace(path.with_name(REFUSED))
