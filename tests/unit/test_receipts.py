import json

import pytest

from onetok.errors import OnetokError
from onetok.plan import plan
from onetok.receipts import check_inputs, read_receipt, scratch_folder, verify, write_receipt
from onetok.study import load_study


@pytest.fixture
def written(smallest):
    """A dataset and a token cache with small stand-ins for payloads, and their receipts."""
    study = load_study(smallest)
    jobs = [
        plan(study, kind, name)
        for kind, name in (
            ("datasets", "labelled/digits"),
            ("encoders", "classifiers/digits"),
        )
    ]
    for job in jobs:
        for output in job.outputs:
            path = smallest / job.artefact.folder / output
            path.mkdir(parents=True) if "." not in output else path.parent.mkdir(parents=True, exist_ok=True)
            (path / "file" if path.is_dir() else path).write_text(output)
        write_receipt(job, smallest)
    return smallest, *jobs


def test_a_receipt_is_a_function_of_params_inputs_and_outputs(written):
    study, dataset, encoder = written
    first = (study / encoder.artefact.receipt).read_bytes()
    (study / dataset.artefact.folder / "shards/.snakemake_timestamp").write_text("")
    write_receipt(dataset, study)
    write_receipt(encoder, study)
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
    write_receipt(dataset, study)
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
    write_receipt(dataset, study)
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
    path.write_text("{}")
    assert "no 'inputs', expected a receipt" in verify(encoder, study, digests=True)[0]


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
        write_receipt(encoder, study)
    assert not (study / encoder.artefact.receipt).exists()
