"""Folders of images and pinned weights that are not there are listed before the first job, each in one line."""

from __future__ import annotations

import logging
import sys

import pytest

from onetok import cli
from onetok.errors import OnetokError
from onetok.study.load import build_study, load_study, read_params
from onetok.study.plan import Artefact, all_jobs
from onetok.workflow.failures import JobErrors, Run, summary
from onetok.workflow.needs import float16_on_cpu, missing_needs
from onetok.workflow.profile import read_machine
from tests.conftest import REPOSITORY

PUBLISHED = """\
encoders:
  published:
    inception: &inception
      kind: inception
      weights: {hub: null, revision: null, url: null, file: data/weights.pth, sha256: null}
    pinned:
      <<: *inception
      weights: {hub: null, revision: null, url: null, file: data/weights.pth, sha256: "PIN"}
    hub:
      <<: *inception
      weights: {hub: a/b, revision: null, url: null, file: x.safetensors, sha256: null}
""".replace("PIN", "0123456789abcdef" * 4)


@pytest.fixture
def study(smallest):
    """The smallest study with folders of images that are not there, and with published encoders."""
    (smallest / "params/encoders/published.yaml").write_text(PUBLISHED)
    path = smallest / "params/datasets/labelled.yaml"
    source = '{kind: imagefolder, path: data/birds, class_names: folders, caption: "a {class}"}'
    text = path.read_text()
    start, end = text.index("{kind: digits"), text.index("\n", text.index("{kind: digits"))
    path.write_text(text[:start] + source + text[end:])
    return smallest


def check(monkeypatch, capsys, study, *targets):
    monkeypatch.setattr(sys, "argv", ["onetok", "check", "--study", str(study), *targets])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().out


def test_check_lists_what_the_asked_targets_lack(study, monkeypatch, capsys):
    status, output = check(monkeypatch, capsys, study)
    assert status == 1
    assert output.splitlines() == [
        "missing before the first job:",
        "  params/datasets/labelled.yaml: datasets.labelled.digits.source.path: "
        f"{study}/data/birds: no such folder; put the images there, or a link to where they are",
    ]
    scenes = "results/datasets/captioned/scenes/receipt.json"
    assert check(monkeypatch, capsys, study, scenes) == (0, "")
    (study / "data/birds").mkdir(parents=True)
    assert check(monkeypatch, capsys, study) == (0, "")


def test_weights_without_a_pin_or_a_file_are_listed_with_what_to_do(study):
    encoders = [Artefact(kind="encoders", name=f"published/{n}") for n in ("inception", "pinned", "hub")]
    found = missing_needs(load_study(study), encoders, study)
    start = "params/encoders/published.yaml: encoders.published"
    null = "null in params; `"
    assert (
        found.pop() == "`onetok pin --all --write` looks up every null pin and writes it to params/pins.yaml"
    )
    assert found == [
        f"{start}.hub.weights: x.safetensors: not pinned: weights.revision and weights.sha256 are {null}"
        "onetok pin a/b x.safetensors` prints them",
        f"{start}.inception.weights: data/weights.pth: not pinned: weights.sha256 is {null}"
        "sha256sum data/weights.pth` prints it",
        f"{start}.pinned.weights.file: {study}/data/weights.pth: no such file",
    ]


def test_the_papers_study_says_all_that_it_lacks_at_once(repository, tmp_path):
    study = load_study(repository)
    pulled = [job.artefact for job in all_jobs(study)]
    found = missing_needs(study, pulled, tmp_path)
    assert sum("source.path" in line for line in found) == sum(a.kind == "datasets" for a in pulled)
    assert sum("onetok pin" in line for line in found) > 20


def test_float16_on_a_processor_is_said_of_all_at_once():
    study = build_study(read_params(REPOSITORY)[0])
    jobs = [job.artefact for job in all_jobs(study)]
    line = float16_on_cpu(study, jobs)
    assert line is not None and line.startswith("profile: config.device: found cpu, but ")
    assert " more are trained in float16" in line
    assert float16_on_cpu(study, [a for a in jobs if a.kind == "datasets"]) is None


# ---------------------------------------------------------------------------------------------- the machine

GOOD = {"device": "cpu", "tf32": False, "threads": 1, "workers": 0, "launch": "python -m", "tracker": "none"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threads": 0}, r"config.threads: found 0 \(int\); .*greater than 0"),
        ({"threads": "2"}, r"config.threads: found '2' \(str\); .*valid integer"),
        ({"threads": True}, r"config.threads: found True \(bool\)"),
        ({"workers": -1}, r"config.workers: found -1 \(int\)"),
        ({"device": "cuda:1"}, r"config.device: found 'cuda:1' .*'cpu' or 'cuda'"),
        ({"tracker": "mlflow"}, r"config.tracker: found 'mlflow'"),
        ({"launch": ""}, r"config.launch: found ''"),
        ({"tf32": True}, r"config.tf32: found true on device cpu"),
        ({"gpus": 1}, r"config holds unknown \['gpus'\] and lacks \[\]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_machine_that_no_job_can_use_is_refused(change, message):
    assert read_machine(GOOD).threads == 1
    with pytest.raises(OnetokError, match=f"^profile: {message}"):
        read_machine(GOOD | change)


# ---------------------------------------------------------------------------------------------- the end of a run


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "RuleException:\nCalledProcessError in file x.smk\nCommand 'y' returned non-zero exit status 1.",
            False,
        ),
        ("Exiting because a job execution failed. Look below for error messages", False),
        ("1 job failed:\n  convert_dataset a/b: data/a: no such folder", True),
    ],
)
def test_what_a_stage_has_said_snakemake_does_not_say_again(message, shown):
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None)
    assert JobErrors().filter(record) is shown


def test_a_summary_names_failed_jobs_with_reason_and_log_and_what_was_not_run(tmp_path):
    (tmp_path / "a.txt").write_text("train: 1/2\nerror: data/x.png: not an image\ntorch: terminating\n")
    (tmp_path / "b.txt").write_text("train: 1/2\n")
    failed = [Run("train_encoder", "clip/b", "b.txt"), Run("convert_dataset", "a/a", "a.txt")]
    unmade = [Run("build_table", f"t/{n}", None) for n in range(8)] + [Run("plot_figure", "f/0", None)]
    assert summary(failed, unmade, tmp_path).splitlines()[:9] == [
        "2 jobs failed:",
        "  convert_dataset a/a: data/x.png: not an image",
        f"    log: {tmp_path}/a.txt",
        "  train_encoder clip/b: ended without an error of its own, as a job does that is killed; "
        "its log ends with: train: 1/2",
        f"    log: {tmp_path}/b.txt",
        "9 jobs not run because of them:",
        "  build_table t/0, t/1, t/2, t/3, t/4, t/5 and 2 more",
        "  plot_figure f/0",
    ]
