"""Results that were copied from another machine: without Snakemake's records, and with other times."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from onetok.commands.store import adopt_results
from onetok.errors import OnetokError
from onetok.store.adopt import find_adoptable
from onetok.study.load import load_study
from onetok.study.plan import all_jobs
from onetok.study.receipts import check_inputs, write_receipt


class Arguments:
    def __init__(self, study):
        self.study = study


@pytest.fixture
def copied(smallest):
    """Every artefact of the smallest study with stand-ins for its files, the inputs newer than what reads them."""
    jobs = list(all_jobs(load_study(smallest)))
    for age, job in enumerate(jobs):
        folder = smallest / job.artefact.folder
        for output in job.outputs:
            path = folder / output if "." in output else folder / output / "file"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{output} of {job.artefact}")
        write_receipt(job, smallest, check_inputs(job, smallest))
        for path in folder.rglob("*"):
            os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return smallest


def waiting(dry: str) -> int:
    found = re.search(r"^total +(\d+)$", dry, flags=re.MULTILINE)
    return int(found[1]) if found else 0


def test_copied_results_are_taken_over_and_nothing_is_made_again(copied, snakemake, capfd):
    jobs = list(all_jobs(load_study(copied)))
    assert waiting(snakemake(copied, "-n").stdout) > len(jobs) / 2
    assert adopt_results(Arguments(copied)) == 0
    assert f"{len(jobs)} artefacts are taken over as they are, 0 are left" in capfd.readouterr().out
    dry = snakemake(copied, "-n")
    assert "Nothing to be done" in dry.stdout, dry.stdout


def test_what_does_not_verify_is_named_and_left_to_be_made(copied, snakemake, capfd):
    jobs = {job.artefact.folder: job for job in all_jobs(load_study(copied))}
    missing, flipped = "results/scores/samples/rar/titok", "results/datasets/captioned/scenes"
    shutil.rmtree(copied / missing)
    shards = copied / flipped / "shards/file"
    shards.write_text(shards.read_text().replace("shards", "SHARDS"))
    behind = {missing, flipped}
    for folder, job in jobs.items():
        if any(needed.folder in behind for needed in job.inputs):
            behind.add(folder)
    verified, _, left = find_adoptable(copied)
    assert len(left) == len(behind) and len(verified) == len(jobs) - len(behind)
    assert any(re.search(rf"^{missing}: .*no such receipt", line) for line in left)
    assert any(re.search(rf"^{flipped}: .*shards/file: sha256", line) for line in left)
    adopt_results(Arguments(copied))
    said = capfd.readouterr().out
    assert said.count("left to be made: ") == len(behind)
    dry = snakemake(copied, "-n").stdout
    for folder in (missing, flipped):
        assert f"{folder}/receipt.json" in dry
    assert len(behind) < len(jobs)
    assert waiting(dry) == len(behind) + 1, "and the rule that asks for all"


def test_a_study_of_which_nothing_verifies_says_so(smallest):
    with pytest.raises(OnetokError, match="results: no artefact verifies, nothing is taken over"):
        adopt_results(Arguments(smallest))
    assert not (Path(smallest) / ".snakemake").exists()
