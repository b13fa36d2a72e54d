"""Fine-tuning: training starts from the weights of a file, or of another artefact, in place of new ones."""

from __future__ import annotations

import hashlib
import shutil

import pytest
import torch
from safetensors.torch import save_file

from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.schema.generators import TrainedGenerator
from onetok.study.schema.starts import FromGenerator, FromWeights
from onetok.study.schema.tokenizers import TrainedTokenizer
from onetok.systems.registry import RECORDS, build_generator, fill_from, shapes_of
from tests.conftest import REPOSITORY

SMALLEST = REPOSITORY / "tests/e2e/smallest"
STUDY = load_study(SMALLEST)
CLASSES = ["maskgit/tiny", "rar/titok"]


def generator(name, classes):
    entry = STUDY.generators[name].replace(classes=classes)
    return build_generator(entry, shapes_of(STUDY, entry))


def pinned(path, layout="onetok"):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = {"hub": None, "revision": None, "url": None, "file": str(path), "sha256": digest}
    return FromWeights.model_validate({"kind": "weights", "layout": layout, "weights": weights})


def saved(model, path):
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("name", CLASSES)
def test_a_generator_starts_from_the_weights_of_a_file(tmp_path, name):
    first, second = generator(name, 10), generator(name, 10)
    fill_from(second, pinned(saved(first, tmp_path / "first.safetensors")), made=None)
    for key, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], tensor), key
    assert second.training


@pytest.mark.parametrize("name", CLASSES)
def test_other_classes_have_embeddings_of_their_own_and_all_else_is_kept(tmp_path, name):
    first, second = generator(name, 10), generator(name, 3)
    (record,) = (record for record in RECORDS if record.model is type(first))
    new = second.state_dict()[record.class_table].clone()
    fill_from(second, pinned(saved(first, tmp_path / "first.safetensors")), made=None)
    before, after, codes = first.state_dict(), second.state_dict(), first.codebook_size + 1
    for key in before.keys() - {record.class_table}:
        assert torch.equal(after[key], before[key]), key
    table = after[record.class_table]
    assert torch.equal(table[:codes], before[record.class_table][:codes])  # codes and mask
    assert torch.equal(table[codes:-1], new[codes:-1])  # the new classes
    assert torch.equal(table[-1], before[record.class_table][-1])  # the null class


def test_an_artefact_of_the_study_is_a_start_and_takes_no_random_numbers():
    first, second = generator("maskgit/tiny", 10), generator("maskgit/tiny", 10)

    class Made:
        def generator(self, name):
            assert name == "maskgit/other"
            torch.rand(7)
            return first

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    fill_from(second, FromGenerator(kind="artefact", name="maskgit/other"), Made())
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(second.state_dict()[k], v) for k, v in first.state_dict().items())


def test_another_file_and_other_sizes_are_refused(tmp_path):
    path = saved(generator("maskgit/tiny", 10), tmp_path / "first.safetensors")
    start = pinned(path)
    with pytest.raises(OnetokError, match="tensors missing"):
        fill_from(generator("rar/titok", 10), start, made=None)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(OnetokError, match="sha256"):
        fill_from(generator("maskgit/tiny", 10), start, made=None)


def test_where_nothing_is_fine_tuned_receipts_say_nothing_of_it():
    for entry in (*STUDY.tokenizers.values(), *STUDY.generators.values()):
        if isinstance(entry, TrainedTokenizer | TrainedGenerator):
            assert "init_from" not in entry.model_dump(mode="json")


@pytest.mark.parametrize(
    ("file", "after", "start", "said"),
    [
        ("generators/maskgit.yaml", "kind: maskgit-vit", "maskgit/tiny", "which leads back to it"),
        ("generators/maskgit.yaml", "kind: maskgit-vit", "rar/nothing", "no generators named 'rar/nothing'"),
        (
            "tokenizers/titok_stage_2.yaml",
            "kind: titok-stage-2",
            "titok/vq-16",
            "starts from titok_stage_1/vq-16",
        ),
        ("tokenizers/titok_stage_1.yaml", "kind: titok-stage-1", "titok_stage_2/vq-16", "leads back to it"),
    ],
)
def test_a_start_that_cannot_be_is_refused_before_anything_runs(tmp_path, file, after, start, said):
    study = tmp_path / "study"
    shutil.copytree(SMALLEST / "params", study / "params")
    path = study / "params" / file
    line = f"{after}\n      init_from: {{kind: artefact, name: {start}}}"
    path.write_text(path.read_text().replace(after, line, 1))
    with pytest.raises(OnetokError, match=said):
        load_study(study)
