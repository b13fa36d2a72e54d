"""What the doors do before, between and after DVC's own work, which a list of calls stands for."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from onetok.errors import OnetokError
from onetok.store import publish
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.receipts import check_inputs, write_receipt
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def smallest():
    return load_study(REPOSITORY / "tests/e2e/smallest")


@pytest.fixture(scope="module")
def planned(smallest):
    study = smallest
    names = (("datasets", "labelled/digits"), ("encoders", "classifiers/digits"))
    return [plan(study, kind, name) for kind, name in names]


@pytest.fixture
def study(tmp_path, planned, smallest, monkeypatch):
    """A study of two artefacts in a repository of git, with a remote."""
    for job in planned:
        for output in job.outputs:
            path = tmp_path / job.artefact.folder / (output if "." in output else f"{output}/file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(output)
        write_receipt(job, tmp_path, check_inputs(job, tmp_path))
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(publish, "load_study", lambda directory: smallest)
    monkeypatch.setattr(publish, "all_jobs", lambda study: planned)
    answers = {"root": (0, "."), "remote": (0, "store"), "cache": (0, "/clone/.dvc/cache")}

    def ask(study, *arguments):
        code, text = answers[arguments[0]]
        return SimpleNamespace(returncode=code, stdout=text, stderr="" if code == 0 else text)

    monkeypatch.setattr(publish, "_ask_dvc", ask)
    calls = []
    monkeypatch.setattr(publish, "_dvc", lambda study, *arguments, left="": calls.append(arguments[0]))
    return SimpleNamespace(folder=tmp_path, calls=calls, answers=answers, encoder=planned[1])


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make_again(study):
    """Make the classifier again, with another result."""
    folder = study.folder / study.encoder.artefact.folder
    (folder / "accuracy.json").write_text(json.dumps({"accuracy": 1.0}))
    write_receipt(study.encoder, study.folder, check_inputs(study.encoder, study.folder))
    return folder


def test_publish_then_restore_gives_back_what_was_there(study):
    (study.folder / "evidence/spread").mkdir(parents=True)
    (study.folder / "evidence/spread/run.json").write_text("{}")
    publish.publish(study.folder, push=True, replace=False)
    assert study.calls == ["commit", "push"]
    kept = content(study.folder / "evidence")
    folder = study.encoder.artefact.folder.replace("results/", "")
    names = ("receipt.json", "accuracy.json", "scalars.csv")
    assert kept.keys() >= {"spread/run.json", "machine.json", *(f"{folder}/{name}" for name in names)}
    assert not any("weights" in name for name in kept)
    assert sorted(p.name for p in study.folder.iterdir() if "evidence" in p.name) == ["evidence"]
    (study.folder / "results" / folder / "receipt.json").unlink()
    publish.restore(study.folder, replace=False)
    assert study.calls[-1] == "pull" and not (study.folder / "results/machine.json").exists()


def test_evidence_that_is_not_in_git_is_not_replaced_unless_asked_for(study):
    publish.publish(study.folder, push=True, replace=False)
    before = content(study.folder / "evidence")
    make_again(study)
    study.calls.clear()
    with pytest.raises(
        OnetokError, match="evidence that is not in git would be replaced; commit it, or allow"
    ) as error:
        publish.publish(study.folder, push=True, replace=False)
    assert "evidence/encoders/classifiers/digits/accuracy.json" in str(error.value)
    assert study.calls == [] and content(study.folder / "evidence") == before
    assert not (study.folder / "evidence.new").exists()
    git(study.folder, "add", "evidence")
    publish.publish(study.folder, push=True, replace=False)
    assert content(study.folder / "evidence") != before
    make_again(study)
    (study.folder / "results/encoders/classifiers/digits/accuracy.json").write_text("{}")
    write_receipt(study.encoder, study.folder, check_inputs(study.encoder, study.folder))
    publish.publish(study.folder, push=True, replace=True)


def test_a_push_that_fails_leaves_the_evidence_as_it_was(study, monkeypatch):
    publish.publish(study.folder, push=True, replace=False)
    git(study.folder, "add", "evidence")
    before = content(study.folder / "evidence")
    make_again(study)

    def fail(study, *arguments, left=""):
        if arguments[0] == "push":
            raise OnetokError(f"dvc push failed; {left}")

    monkeypatch.setattr(publish, "_dvc", fail)
    with pytest.raises(
        OnetokError, match=r"evidence/ is as it was, the payloads are in /clone/.dvc/cache alone"
    ):
        publish.publish(study.folder, push=True, replace=False)
    assert content(study.folder / "evidence") == before and not (study.folder / "evidence.new").exists()


@pytest.mark.parametrize("door", ["publish", "restore"])
def test_a_missing_remote_is_said_before_anything_is_written(study, door, capsys):
    publish.publish(study.folder, push=False, replace=False)
    said = capsys.readouterr().out
    assert "not pushed: the payloads are in /clone/.dvc/cache alone; when there is a remote: dvc push" in said
    study.calls.clear()
    before = content(study.folder)
    study.answers["remote"] = (1, "No default remote set")
    with pytest.raises(OnetokError, match=r"dvc: no remote to (push to|pull from).*dvc remote add"):
        if door == "publish":
            publish.publish(study.folder, push=True, replace=True)
        else:
            publish.restore(study.folder, replace=True)
    assert content(study.folder) == before and study.calls == []
    study.answers["root"] = (253, "")
    with pytest.raises(OnetokError, match="not inside a DVC repository"):
        publish.restore(study.folder, replace=True)


def test_results_that_were_not_published_are_not_replaced_unless_asked_for(study):
    publish.publish(study.folder, push=True, replace=False)
    study.calls.clear()
    folder = make_again(study)
    with pytest.raises(OnetokError, match="results that were not published would be replaced") as error:
        publish.restore(study.folder, replace=False)
    listed = str(error.value).splitlines()[1:]
    assert listed == [f"  {folder}/receipt.json", f"  {folder}/accuracy.json"] and study.calls == []
    (folder / "receipt.json").unlink()  # of a stage that was stopped
    with pytest.raises(OnetokError, match=r"digits/accuracy.json"):
        publish.restore(study.folder, replace=False)
    (folder / "accuracy.json").unlink()
    shards = study.folder / "results/datasets/labelled/digits/shards"
    (shards / "extra").write_text("mine")
    with pytest.raises(OnetokError, match="shards/extra"):
        publish.restore(study.folder, replace=False)
    publish.restore(study.folder, replace=True)
    assert study.calls == ["pull"]
    assert (folder / "accuracy.json").read_text() == "accuracy.json"


def test_what_an_earlier_state_of_the_evidence_holds_may_be_replaced(study):
    """To go back in time: git checkout OLD, onetok restore."""
    publish.publish(study.folder, push=True, replace=False)
    git(study.folder, "add", "evidence")
    git(study.folder, "commit", "-qm", "old")
    folder = make_again(study)
    publish.publish(study.folder, push=True, replace=False)
    git(study.folder, "add", "evidence")
    git(study.folder, "commit", "-qm", "new")
    git(study.folder, "checkout", "-q", "HEAD~1")
    publish.restore(study.folder, replace=False)
    assert (folder / "accuracy.json").read_text() == "accuracy.json"


def test_evidence_of_other_params_is_refused_before_anything_is_written(study, planned, monkeypatch):
    publish.publish(study.folder, push=True, replace=False)
    study.calls.clear()
    path = study.folder / "evidence/encoders/classifiers/digits/receipt.json"
    path.write_text(path.read_text().replace('"features": 64', '"features": 65'))
    with pytest.raises(OnetokError, match=r"digits/receipt.json: is of other params"):
        publish.restore(study.folder, replace=True)
    path.unlink()
    with pytest.raises(OnetokError, match=r"digits/receipt.json: no such file"):
        publish.restore(study.folder, replace=True)
    assert study.calls == []


@pytest.mark.parametrize("moved", [False, True])
def test_a_swap_that_was_cut_short_loses_nothing(study, moved):
    publish.publish(study.folder, push=True, replace=False)
    before = content(study.folder / "evidence")
    (study.folder / "evidence").rename(study.folder / "evidence.old")
    if moved:  # the new one is in its place
        publish._copy_evidence([], study.folder, study.folder / "evidence")
    publish._finish_swap(study.folder)
    assert not (study.folder / "evidence.old").exists()
    assert (content(study.folder / "evidence") == before) is not moved
