import json
import os
import random
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from onetok import durable
from onetok.errors import OnetokError
from onetok.stages.common import runtime
from onetok.study import digests
from onetok.study.load import load_study
from onetok.study.plan import plan
from onetok.study.receipts import (
    check_inputs,
    payloads_of,
    read_receipt,
    scratch_folder,
    verify,
    write_receipt,
)
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def planned():
    study = load_study(REPOSITORY / "tests/e2e/smallest")
    names = (("datasets", "labelled/digits"), ("encoders", "classifiers/digits"))
    return [plan(study, kind, name) for kind, name in names]


@pytest.fixture
def written(smallest, planned):
    """A dataset and a classifier with small stand-ins for payloads, and their receipts."""
    jobs = planned
    for job in jobs:
        for output in job.outputs:
            path = smallest / job.artefact.folder / output
            path.mkdir(parents=True) if "." not in output else path.parent.mkdir(parents=True, exist_ok=True)
            (path / "file" if path.is_dir() else path).write_text(output)
        write_receipt(job, smallest, check_inputs(job, smallest))
    return smallest, *jobs


def test_a_receipt_is_a_function_of_params_inputs_and_outputs(written):
    study, dataset, encoder = written
    first = (study / encoder.artefact.receipt).read_bytes()
    (study / dataset.artefact.folder / "shards/.snakemake_timestamp").write_text("")
    write_receipt(dataset, study, {})
    write_receipt(encoder, study, check_inputs(encoder, study))
    assert (study / encoder.artefact.receipt).read_bytes() == first
    receipt = json.loads(first)
    assert receipt["params"] == encoder.params and receipt["version"] == encoder.version
    assert list(receipt["inputs"]) == [dataset.artefact.receipt]
    assert verify(dataset, study, digests=True) == verify(encoder, study, digests=True) == []


def test_verify_names_every_way_in_which_an_artefact_can_be_wrong(written):
    study, dataset, encoder = written
    path = study / "params/encoders/classifiers.yaml"
    path.write_text(path.read_text().replace("features: 64", "features: 32"))
    changed = plan(load_study(study), "encoders", "classifiers/digits")
    (line,) = verify(changed, study, digests=True)
    assert line.endswith("receipt.json: params.model.features: made with 64, params say 32")

    weights = study / encoder.artefact.folder / "weights.safetensors"
    weights.write_text("weights.safetensorS")
    (line,) = verify(encoder, study, digests=True)
    assert "weights.safetensors: sha256" in line
    weights.write_text("short")
    assert "5 bytes, expected 19 (receipt)" in verify(encoder, study, digests=True)[0]
    weights.unlink()
    assert "missing, but its receipt lists it" in verify(encoder, study, digests=True)[0]

    (study / dataset.artefact.folder / "shards/file").write_text("other")
    write_receipt(dataset, study, {})
    assert any(
        "was made from another results/datasets" in line for line in verify(encoder, study, digests=True)
    )
    (study / dataset.artefact.receipt).unlink()
    assert any(
        "its input results/datasets/labelled/digits/receipt.json is missing" in x
        for x in verify(encoder, study, digests=True)
    )


def test_an_interrupted_run_is_not_continued_on_other_inputs(written):
    study, dataset, encoder = written
    before = scratch_folder(encoder, study)
    assert scratch_folder(encoder, study) == before
    (study / dataset.artefact.folder / "shards/file").write_text("other")
    write_receipt(dataset, study, {})
    assert scratch_folder(encoder, study) != before


def test_a_receipt_that_lists_too_little_is_found(written):
    study, _, encoder = written
    path = study / encoder.artefact.receipt
    receipt = json.loads(path.read_text())
    del receipt["outputs"]["config.json"]
    path.write_text(json.dumps(receipt))
    assert any("lists no config.json" in line for line in verify(encoder, study, digests=True))
    receipt["params"]["nothing"] = None
    del receipt["params"]["kind"]
    path.write_text(json.dumps(receipt))
    lines = verify(encoder, study, digests=True)
    assert any(line.endswith("params.nothing: only in the receipt") for line in lines)
    assert any(line.endswith("params.kind: only in params") for line in lines)
    receipt["inputs"]["results/datasets/labelled/scenes/receipt.json"] = {"sha256": "0" * 64, "payloads": {}}
    receipt["outputs"]["notes.txt"] = {"sha256": "0" * 64, "size": 0}
    path.write_text(json.dumps(receipt))
    lines = verify(encoder, study, digests=True)
    assert any("names results/datasets/labelled/scenes/receipt.json, which is no input" in x for x in lines)
    assert any("lists notes.txt, which is no output" in line for line in lines)


def test_a_stage_does_not_start_on_what_is_missing(written):
    study, dataset, encoder = written
    check_inputs(encoder, study)
    (study / dataset.artefact.folder / "shards/file").unlink()
    with pytest.raises(OnetokError, match="shards/file: missing"):
        check_inputs(encoder, study)
    (study / dataset.artefact.receipt).write_text("{")
    with pytest.raises(OnetokError, match=r"receipt.json: not JSON"):
        check_inputs(encoder, study)
    (study / dataset.artefact.receipt).unlink()
    with pytest.raises(OnetokError, match=r"no such receipt; make it first: onetok make results/datasets"):
        read_receipt(dataset.artefact, study)


def test_an_output_that_was_not_written_leaves_no_receipt(written):
    study, _, encoder = written
    (study / encoder.artefact.receipt).unlink()
    (study / encoder.artefact.folder / "config.json").unlink()
    with pytest.raises(OnetokError, match=r"config.json: the stage did not write it"):
        write_receipt(encoder, study, check_inputs(encoder, study))
    assert not (study / encoder.artefact.receipt).exists()


def flip(path: Path) -> None:
    """Turn one bit, and put the time of the last write back: nothing but the bytes tells."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_flipped_bit_in_what_a_stage_reads_is_refused_by_the_name_of_the_file(written):
    study, dataset, encoder = written
    check_inputs(encoder, study)  # the index knows the file
    shard = study / dataset.artefact.folder / "shards/file"
    flip(shard)
    with pytest.raises(OnetokError) as error:
        check_inputs(encoder, study)
    assert str(error.value).startswith(f"{shard}: sha256 ") and "\n" not in str(error.value)
    flip(shard)
    assert check_inputs(encoder, study)


def test_what_was_made_from_wrong_bytes_says_so_after_they_are_mended(written):
    study, _, encoder = written
    right = check_inputs(encoder, study)
    (name,) = right
    wrong = {name: {**right[name], "payloads": {**right[name]["payloads"], "shards": "0" * 64}}}
    path = study / encoder.artefact.receipt
    path.write_text(json.dumps({**json.loads(path.read_text()), "inputs": wrong}))
    (line,) = verify(encoder, study, digests=True)
    assert line.endswith(
        f"was made from other bytes of results/datasets/labelled/digits/shards than {name} lists"
    )


def test_an_input_that_changes_during_the_work_leaves_no_receipt(written):
    study, dataset, encoder = written
    read = check_inputs(encoder, study)
    receipt = study / encoder.artefact.receipt
    receipt.unlink()
    flip(study / dataset.artefact.folder / "shards/file")
    with pytest.raises(OnetokError, match="shards/file: sha256"):
        write_receipt(encoder, study, read)
    write_receipt(dataset, study, {})  # another version, which its receipt fits
    with pytest.raises(
        OnetokError, match=r"changed while train_encoder classifiers/digits ran; start it again"
    ):
        write_receipt(encoder, study, read)
    assert not receipt.exists()


def test_state_that_may_come_from_wrong_bytes_is_set_aside_and_not_gone_on_with(written):
    study, dataset, encoder = written
    scratch = scratch_folder(encoder, study)
    scratch.mkdir(parents=True)
    (scratch / "step-000000010.pt").write_text("ten days of work")
    flip(study / dataset.artefact.folder / "shards/file")
    with pytest.raises(OnetokError, match=rf"maybe from these bytes, is now {scratch}.set-aside$"):
        check_inputs(encoder, study)
    assert not scratch.exists()
    assert (scratch.with_name(f"{scratch.name}.set-aside") / "step-000000010.pt").exists()


def test_a_file_is_read_once_for_each_version_of_it(written, monkeypatch):
    study, _, encoder = written
    read = []
    monkeypatch.setattr(digests, "sha256", lambda path: read.append(path.name) or "0" * 64)
    check_inputs(encoder, study)
    assert read == []  # writing the receipt has read it
    (study / "results/scratch/digests/datasets/labelled/digits.json").write_text('{"shards/file": 1}')
    with pytest.raises(OnetokError):  # a damaged index is none; the digest is made up
        check_inputs(encoder, study)
    assert read


def test_an_index_that_is_wrong_accuses_no_file(written):
    study, _, encoder = written
    index = study / "results/scratch/digests/datasets/labelled/digits.json"
    content = json.loads(index.read_text())
    content["shards/file"][0] = "0" * 64
    index.write_text(json.dumps(content))
    assert check_inputs(encoder, study)


def test_a_file_of_this_very_moment_is_read_again_later(tmp_path, monkeypatch):
    """Two writes within a tick of the clock leave the same times."""
    (tmp_path / "a").write_text("one")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(digests, "TICK", 10**12)
    with digests.DigestIndex(tmp_path, tmp_path / "index.json") as index:
        index.digest("a")
    assert not (tmp_path / "index.json").exists()


def test_the_digest_of_a_folder_is_what_sha256sum_says(written):
    study, dataset, _ = written
    folder = study / dataset.artefact.folder
    for name in ("b", "a.tar", "sub/c"):
        (folder / "shards" / name).parent.mkdir(exist_ok=True)
        (folder / "shards" / name).write_text(name)
    write_receipt(dataset, study, {})
    command = "find shards -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert payloads_of(read_receipt(dataset.artefact, study))["shards"] == said.stdout.split()[0]


def test_a_linked_folder_of_payloads_is_followed(written, tmp_path):
    study, dataset, encoder = written
    shards = study / dataset.artefact.folder / "shards"
    shards.rename(tmp_path / "elsewhere")
    shards.symlink_to(tmp_path / "elsewhere")
    assert verify(dataset, study, digests=True) == [] and check_inputs(encoder, study)
    flip(tmp_path / "elsewhere/file")
    assert "shards/file: sha256" in verify(dataset, study, digests=True)[0]
    (tmp_path / "elsewhere/file").unlink()
    os.mkfifo(tmp_path / "elsewhere/file")
    (line,) = verify(dataset, study, digests=True)
    assert "shards/file" in line  # and reading does not hang


# ------------------------------------------------------------------------------------------- damaged receipts

RECEIPT = {
    "stage": "train_encoder",
    "name": "classifiers/digits",
    "version": 1,
    "params": {},
    "inputs": {},
    "outputs": {"weights.safetensors": {"sha256": "a" * 64, "size": 3}},
}


def with_output(name="weights.safetensors", **changes):
    return json.dumps(RECEIPT | {"outputs": {name: {"sha256": "a" * 64, "size": 3} | changes}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "the content: found [], Input should be a valid dictionary"),
        (json.dumps(RECEIPT | {"extra": 1}), "extra: found 1, Extra inputs"),
        (json.dumps(RECEIPT | {"version": True}), "version: found True, Input should be a valid integer"),
        (json.dumps(RECEIPT | {"version": "1"}), "version: found '1', Input should be a valid integer"),
        (json.dumps(RECEIPT | {"params": []}), "params: found [], Input should be a valid dictionary"),
        (json.dumps(RECEIPT | {"inputs": {"/etc/passwd": {}}}), "inputs./etc/passwd: found"),
        (json.dumps(RECEIPT | {"inputs": {"results/x/../receipt.json": "0"}}), "expected results/<kind>/"),
        (with_output("../../secret"), "expected the name of a file inside the artefact's folder"),
        (with_output("/dev/zero"), "expected the name of a file inside the artefact's folder"),
        (with_output(""), "expected the name of a file inside the artefact's folder"),
        (with_output("a//b"), "expected the name of a file inside the artefact's folder"),
        (with_output("a\u0000b"), "expected the name of a file inside the artefact's folder"),
        (with_output("n" * 300), "expected a name that file systems take"),
        (with_output(size=-1), "size: found -1"),
        (with_output(size=1.5), "size: found 1.5"),
        (with_output(size=10**30), "size: found 1000000000"),
        (with_output(sha256="a" * 63), "sha256: found 'aaa"),
        (with_output(sha256="A" * 64), "sha256: found 'AAA"),
        (with_output(sha256="a" * 64 + "\n"), "sha256: found 'aaa"),
        ('{"stage": "a", "stage": "b"}', "the key 'stage' twice"),
        ('{"params": NaN}', "not JSON (the number 'NaN')"),
        ('{"params": 1e999}', "not JSON (the number '1e999')"),
        ('{"version": ' + "9" * 5000 + "}", "not JSON (Exceeds the limit"),
        ("[" * 100_000, "nested more than 32 levels deep"),
        ("[" * 200 + "]" * 200, "nested more than 32 levels deep"),
        (json.dumps(RECEIPT | {"params": {"a": "\ud800"}}), "no Unicode in '\\ud800'"),
        (json.dumps(RECEIPT | {"name": "classifiers/scenes"}), "name: found 'classifiers/scenes', expected"),
        (json.dumps(RECEIPT | {"stage": "train_tokenizer"}), "stage: found 'train_tokenizer', expected"),
    ],
)
def test_what_is_no_receipt_is_one_line_that_names_file_and_place(tmp_path, planned, text, message):
    encoder = planned[1]
    path = tmp_path / encoder.artefact.receipt
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    (line,) = verify(encoder, tmp_path, digests=True)
    assert line.startswith(f"{path}: ") and message in line
    assert line.isprintable() and len(line) < 400


@pytest.mark.parametrize("what", ["folder", "pipe", "link to itself", "a terabyte"])
def test_a_receipt_that_cannot_be_read_is_one_line(written, what):
    study, dataset, encoder = written
    path = study / dataset.artefact.receipt
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to itself":
            path.symlink_to(path)
        case _:
            path.touch()
            os.truncate(path, 2**40)
    (line,) = verify(dataset, study, digests=True)
    assert line.startswith(f"{path}: ")
    with pytest.raises(OnetokError, match=str(path)):
        check_inputs(encoder, study)


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Return content with one bit turned, one byte changed, lost or added."""
    content = bytearray(whole)
    place = chance.randrange(len(content))
    match chance.randrange(5):
        case 0:
            content[place] = chance.randrange(256)
        case 1:
            del content[place]
        case 2:
            content.insert(place, chance.randrange(256))
        case _:
            content[place] ^= 1 << chance.randrange(8)
    return bytes(content)


def test_a_receipt_with_a_bit_or_a_byte_changed_is_one_line_a_problem_or_says_the_same(written):
    study, _, encoder = written
    path, chance = study / encoder.artefact.receipt, random.Random(0)
    whole = path.read_bytes()
    for _ in range(400):
        path.write_bytes(damaged(whole, chance))
        lines = verify(encoder, study, digests=True)
        assert all(line.isprintable() and "receipt" in line for line in lines), lines
        if not lines:  # white space
            assert json.loads(path.read_bytes()) == json.loads(whole)


def test_a_damaged_receipt_of_an_input_is_one_line_for_who_reads_it(written):
    study, dataset, encoder = written
    path, chance = study / dataset.artefact.receipt, random.Random(1)
    whole = path.read_bytes()
    for _ in range(200):
        path.write_bytes(damaged(whole, chance))
        try:
            check_inputs(encoder, study)
        except OnetokError as error:
            assert str(error).isprintable()
        assert all(line.isprintable() for line in verify(encoder, study, digests=True))


def test_a_stage_that_runs_again_removes_a_linked_output_and_leaves_what_it_points_to(
    written, tmp_path, monkeypatch
):
    study, dataset, _ = written
    monkeypatch.chdir(study)
    shards = study / dataset.artefact.folder / "shards"
    shards.rename(tmp_path / "elsewhere")
    shards.symlink_to(tmp_path / "elsewhere")
    (shards.parent / f"{durable.PARTIAL}0123").write_text("half")
    folder = Path(dataset.artefact.folder)
    context = SimpleNamespace(job=dataset, folder=folder, scratch=Path("scratch"), logs=Path("logs"))
    runtime._clear(context)
    assert list(folder.iterdir()) == [] and (tmp_path / "elsewhere/file").exists()
