"""`onetok list` and `onetok status`: what is made, running, failed, stale, or waiting, and what is expected of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from onetok.cli import parse
from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.receipts import write_receipt
from onetok.workflow.states import list_names, running_jobs, status
from tests.conftest import REPOSITORY

DIGITS = ("datasets", "labelled/digits")


@pytest.fixture
def study(smallest):
    """The smallest study with a dataset that is made, and an encoder whose job has failed."""
    job = plan(load_study(smallest), *DIGITS)
    folder = smallest / job.artefact.folder
    (folder / "shards").mkdir(parents=True)
    (folder / "shards/a").write_text("a")
    (folder / "report.json").write_text("{}")
    write_receipt(job, smallest, {})
    log = smallest / "results/logs/train_encoder/clip/digits/log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\nerror: params: this is wrong\n")
    return smallest


def line_of(text, name):
    (line,) = [line for line in text.splitlines() if f" {name} " in f"{line} "]
    return " ".join(line.split())


def test_names_are_listed_with_kind_and_state(study):
    text = list_names(load_study(study), study, ["datasets", "encoders"])
    assert line_of(text, "labelled/digits") == "datasets labelled/digits made"
    assert line_of(text, "captioned/scenes") == "datasets captioned/scenes not made"
    assert line_of(text, "clip/digits") == "encoders clip/digits clip failed"


def test_what_was_made_with_other_params_is_stale(study):
    path = study / "params/datasets/labelled.yaml"
    path.write_text(path.read_text().replace("samples_per_shard: 512", "samples_per_shard: 500"))
    assert line_of(list_names(load_study(study), study, ["datasets"]), "labelled/digits").endswith(" stale")
    lines = status(load_study(study), study)
    (line,) = [line for line in lines if line.startswith("stale: ")]
    assert "samples_per_shard: made with 512, params say 500" in line


def test_expected_scores_are_published_ones_or_those_of_the_evidence():
    text = list_names(load_study(REPOSITORY), REPOSITORY, ["tokenizers"])
    line = line_of(text, "published/titok-l32")
    assert "rFID 2.21 (published)" in line and "released, " in line and "pinned" in line
    miniature = REPOSITORY / "studies/miniature"
    scores = json.loads((miniature / "evidence/scores/reconstruction/titok/vq-16/scores.json").read_text())
    text = list_names(load_study(miniature), miniature, ["tokenizers"])
    assert f"rFID {scores['rfid']:.2f} (evidence)" in line_of(text, "titok/vq-16")


def test_a_kind_that_there_is_not_is_said_with_the_nearest(study):
    with pytest.raises(OnetokError, match="no kind 'tokenizer'; nearest known: tokenizers"):
        list_names(load_study(study), study, ["tokenizer"])


def test_status_counts_shows_the_end_of_the_log_and_names_the_next_command(study):
    lines = status(load_study(study), study)
    assert lines[0].startswith("1 of ") and "1 failed" in lines[0]
    failed = lines.index("failed: train_encoder clip/digits: params: this is wrong")
    assert lines[failed + 1].endswith("train_encoder/clip/digits/log.txt, which ends with")
    assert lines[failed + 2 : failed + 5] == ["    one", "    two", "    error: params: this is wrong"]
    assert any(line.startswith("not made: train_tokenizer ") for line in lines)
    assert lines[-1] == f"go on with: onetok make --study {study}"


def test_a_job_that_runs_in_the_folder_of_the_study_is_running(study):
    program = "import time; time.sleep(60)"
    command = [sys.executable, "-c", program, "onetok.stages.train_encoder", "clip/digits"]
    process = subprocess.Popen(command, cwd=study)
    try:
        for _ in range(50):
            if running_jobs(study):
                break
            time.sleep(0.1)
        assert running_jobs(study) == {("train_encoder", "clip/digits")}
        lines = status(load_study(study), study)
    finally:
        process.kill()
        process.wait()
    assert "running: train_encoder clip/digits: error: params: this is wrong" in lines
    assert not any(line.startswith("go on with") for line in lines)


@pytest.mark.parametrize(
    ("words", "study", "passed"),
    [
        (["make"], ".", []),
        (["make", "--study", "s", "-n", "--cores", "1", "all"], "s", ["-n", "--cores", "1", "all"]),
        (["make", "results/a", "--study", "s"], "s", ["results/a"]),
    ],
)
def test_make_passes_on_what_is_snakemake_s(words, study, passed):
    arguments = parse(words)
    assert (str(arguments.study), arguments.targets) == (study, passed)


def test_other_commands_refuse_what_they_do_not_know(capsys):
    with pytest.raises(SystemExit):
        parse(["verify", "--nonsense"])
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("onetok 0.")
