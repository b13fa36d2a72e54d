"""Tables of released weights: rows that have to be trained may be absent, and come in once they are made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from onetok.commands.make import receipts_of
from onetok.errors import OnetokError
from onetok.report.comparison import Comparison
from onetok.stages.build_released_table import build_released_table
from onetok.stages.build_table import build_whole_table
from onetok.stages.common.runtime import Context
from onetok.study.load import load_study
from onetok.study.plan import (
    Artefact,
    all_jobs,
    jobs_behind,
    of_released_weights,
    plan,
    released_targets,
    scores_of,
)
from onetok.study.receipts import Made, check_inputs, verify, write_receipt
from tests.conftest import REPOSITORY
from tests.factories.artefacts import pretend_made

NAME = "generation/class-conditional"
RELEASED = Artefact(kind="released", name=NAME)
SCORES = {
    "fid": 1.95,
    "sfid": 5.0,
    "inception_score": 290.5,
    "precision": 0.82,
    "recall": 0.58,
    "images": 50000,
    "features": 2048,
}


@pytest.fixture(scope="module")
def study():
    return load_study(REPOSITORY)


def scores(name):
    return Artefact(kind="scores/samples", name=name)


def build(study, kind):
    """Build the table of a kind in the working directory as its stage does."""
    job = plan(study, kind, NAME, Made(study, Path()))
    read = check_inputs(job, Path())
    context = Context(study, job, torch.device("cpu"), 0, "none")
    context.folder.mkdir(parents=True, exist_ok=True)
    (build_released_table if kind == "released" else build_whole_table)(context)
    write_receipt(job, Path(), read)
    return (context.folder / "table.md").read_text()


def cells(markdown, label):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    (row,) = [row for row in rows if row[0] == label]
    return row


def test_a_table_of_released_weights_trains_nothing(study, tmp_path):
    found = released_targets(study, Made(study, tmp_path))
    assert {"generation/class-conditional", "reconstruction/titok", "text_to_image/mjhq"} <= {
        artefact.name for artefact in found
    }
    jobs = list(jobs_behind(study, found))
    entries = [getattr(study, job.artefact.kind, {}).get(job.name) for job in jobs]
    assert not any(hasattr(entry, "training") for entry in entries)
    assert len(list(jobs_behind(study, [scores("published/rar-b")]))) == 7
    assert of_released_weights(study, scores("published/rar-b"))
    assert not of_released_weights(study, scores("rar/b"))
    # Nothing of it is part of the whole study, so that no whole table and no evidence depends on what is made.
    assert not any(job.artefact.kind == "released" for job in all_jobs(study))


def test_a_row_that_is_made_later_makes_the_table_anew(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for row in study.tables[NAME].rows:
        found = scores_of(row)
        if of_released_weights(study, found):
            pretend_made(study, tmp_path, found, SCORES)
    text = build(study, "released")
    assert cells(text, "RAR-B, released weights")[1] == "1.95"
    assert "- Not made: TiTok-L-32, MaskGIT-ViT; " in text
    assert cells(text, "RAR-B").count("not made") == 5
    assert "RAR-B: one token a step" not in text and "RAR-B, released weights: one token a step" in text
    before = plan(study, "released", NAME, Made(study, tmp_path))
    assert verify(before, tmp_path, digests=True) == []
    assert "RAR-B" in before.params["not_made"]

    pretend_made(study, tmp_path, scores("rar/b"), SCORES | {"fid": 2.0})
    after = plan(study, "released", NAME, Made(study, tmp_path))
    assert before.slice != after.slice and scores("rar/b") in after.inputs
    assert any("params.not_made" in line for line in verify(after, tmp_path, digests=True))
    text = build(study, "released")
    assert cells(text, "RAR-B")[1] == "2.00" and cells(text, "RAR-L")[1] == "not made"
    assert verify(after, tmp_path, digests=True) == []

    # A row whose scores no longer follow from params and receipts is not made.
    (tmp_path / scores("rar/b").folder / "scores.json").unlink()
    assert plan(study, "released", NAME, Made(study, tmp_path)).slice == before.slice


def test_a_whole_table_replaces_the_one_of_released_weights(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for row in study.tables[NAME].rows:
        pretend_made(study, tmp_path, scores_of(row), SCORES)
    text = build(study, "released")
    assert "not made" not in text and "Not made" not in text
    whole = build(study, "tables")
    assert whole == text
    assert not (tmp_path / RELEASED.folder).exists()


def test_tables_are_asked_for_by_name(study, tmp_path):
    def paths(*asked, released=True):
        return receipts_of(study, tmp_path, list(asked), released=released)

    assert paths(NAME) == paths(f"results/tables/{NAME}/receipt.json") == [RELEASED.receipt]
    assert paths("-n", "all") == ["-n", "released"]
    assert paths(NAME, "all", released=False) == [f"results/tables/{NAME}/receipt.json", "all"]
    with pytest.raises(OnetokError, match="generation/mask-schedule: all of its rows have to be trained"):
        paths("generation/mask-schedule")
    with pytest.raises(OnetokError, match=r"^results/datasets/labelled/imagenet/receipt\.json: no table"):
        paths("results/datasets/labelled/imagenet/receipt.json")


def test_rows_that_are_not_made_are_not_compared(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for row in study.tables[NAME].rows:
        pretend_made(study, tmp_path, scores_of(row), SCORES)
    build(study, "tables")
    shutil.copytree(tmp_path / "results", tmp_path / "evidence")
    for row in study.tables[NAME].rows:
        if not of_released_weights(study, scores_of(row)):
            shutil.rmtree(tmp_path / scores_of(row).folder)
    build(study, "released")
    comparison = Comparison(study, tmp_path, released=True)
    assert NAME in comparison.tables
    found = comparison.table(NAME)
    assert (found.not_made, found.failed) == (9, False)
    assert {figure.label.rpartition(", ")[2] for figure in found.figures} == {"released weights"}
