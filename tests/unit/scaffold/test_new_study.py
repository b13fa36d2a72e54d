"""`onetok new`: a folder of images becomes a study that holds only what applies to it, with numbers of its own."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from onetok.data.sources import read_splits
from onetok.errors import OnetokError
from onetok.scaffold.new_study import new_study, variant_name
from onetok.scaffold.recipe import recipe
from onetok.scaffold.survey import survey
from onetok.store.dvc_yaml import stale_dvc_yaml
from onetok.study.load import load_study
from onetok.study.plan import all_jobs, plan
from tests.conftest import REPOSITORY
from tests.factories.photographs import write_photographs
from tests.factories.untrained import leave_untrained

PER_CLASS, CLASSES = 22, 3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs") / "own", PER_CLASS, CLASSES, side=40)


def families(study):
    return {
        path.relative_to(study / "params").with_suffix("").as_posix()
        for path in study.rglob("params/*/*.yaml")
    }


COMMON = {"benchmarks/reconstruction", "tables/reconstruction"}


@pytest.mark.parametrize(
    ("captions", "expected", "artefacts"),
    [
        (
            False,
            {"datasets/labelled", "encoders/classifiers", "tokenizers/titok", "generators/maskgit"}
            | {"benchmarks/class_conditional", "tables/generation"},
            {"generators maskgit/tiny", "samples maskgit/tiny-guided", "tokenizers titok/vq-32"},
        ),
        (
            True,
            {"datasets/captioned", "encoders/classifiers", "encoders/clip", "tokenizers/tatitok"}
            | {"generators/maskgen", "benchmarks/text_to_image", "tables/text_to_image"},
            {"generators maskgen/tiny", "samples maskgen/tiny-shuffled", "encoders clip/birds"},
        ),
    ],
)
def test_a_study_holds_only_what_applies(photographs, tmp_path, captions, expected, artefacts):
    directory = tmp_path / "birds"
    lines = new_study(directory, photographs, captions=captions, size=64)
    assert families(directory) == COMMON | expected
    study = load_study(directory)
    jobs = {f"{job.artefact.kind} {job.name}" for job in all_jobs(study)}
    assert artefacts <= jobs
    assert stale_dvc_yaml(study, directory) is None
    assert "66 images, 60 to train on and 6 to validate; classes: 0 astronaut, 1 cat, 2 coffee" in lines[0]
    assert any(line.startswith(f"  onetok make --study {directory}") for line in lines)


def test_numbers_are_those_of_the_images(photographs, tmp_path):
    directory = tmp_path / "birds"
    new_study(directory, photographs, captions=False, size=64)
    study = load_study(directory)
    (dataset,) = study.datasets.values()
    splits = read_splits(dataset)
    for benchmark in study.benchmarks.values():
        assert benchmark.reference_images == len(splits[benchmark.split])
    generated = study.benchmarks["class_conditional/birds"]
    assert generated.samples % CLASSES == 0
    assert (generated.inception_splits, generated.inception_shuffle_seed) == (
        2,
        0,
    )  # ten of each class a part
    for entry in (*study.encoders.values(), *study.tokenizers.values(), *study.generators.values()):
        assert entry.training.batch <= len(splits["train"])
    text = (directory / "params/tokenizers/titok.yaml").read_text()
    assert "steps: 2000   # 533 passes over 60 images" in text


def test_images_alone_are_one_class_and_train_a_tokenizer_by_published_networks(photographs, tmp_path):
    directory = tmp_path / "cats"
    new_study(directory, photographs / "cat", captions=False, size=32)
    assert families(directory) == COMMON | {"datasets/labelled", "encoders/published", "tokenizers/titok"}
    study = load_study(directory)
    assert (directory / "images/all").resolve() == photographs / "cat"
    assert (study.datasets["labelled/cats"].classes, study.tokens, study.generators) == (1, {}, {})
    assert study.benchmarks["reconstruction/cats"].encoder == "published/inception"


def test_folders_of_splits_are_seen_by_their_names(photographs, tmp_path):
    images = tmp_path / "images"
    for split in ("train", "test"):
        shutil.copytree(photographs, images / split)
    found = survey(images)
    assert (found.split.kind, found.split.train, found.split.val) == ("folders", "train", "test")
    assert (found.train, found.val, found.classes) == (66, 66, ("astronaut", "cat", "coffee"))


def test_files_that_are_no_images_are_an_error_or_left_out(photographs, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(photographs, images)
    (images / "cat/broken.jpg").write_bytes(b"none")
    with pytest.raises(OnetokError, match=r"cat/broken\.jpg"):
        new_study(tmp_path / "birds", images, captions=False, size=64)
    assert not (tmp_path / "birds").exists()
    lines = new_study(tmp_path / "birds", images, captions=False, size=64, max_bad_share=0.05)
    assert "66 images, 1 left out" in lines[0]
    (dataset,) = load_study(tmp_path / "birds").datasets.values()
    assert dataset.source.max_bad_share == 0.05
    assert sum(len(split) for split in read_splits(dataset).values()) == 66


def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(photographs, tmp_path):
    def refused(match, *, images=photographs, captions=False, size=64, study="birds"):
        with pytest.raises(OnetokError, match=match):
            new_study(tmp_path / study, images, captions=captions, size=size)

    refused("--images: .*nowhere: no such folder", images=tmp_path / "nowhere")
    refused("--size: found 60, expected a multiple of 8 from 16 to 512", size=60)
    few = tmp_path / "few"
    shutil.copytree(photographs / "cat", few / "cat")
    (few / "coffee").mkdir()
    shutil.copy(photographs / "coffee/000.jpg", few / "coffee/000.jpg")
    refused(
        "coffee: 1 images, expected at least 4, of which 3 are kept for validation; add images", images=few
    )
    (few / "cat/005.txt").unlink()
    for i in range(1, 22):
        shutil.copy(photographs / f"coffee/{i:03d}.jpg", few / "coffee")
    refused(
        r"--captions: .*expected one beside every image, as .*few/cat/005\.txt", images=few, captions=True
    )
    assert not (tmp_path / "birds").exists()
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds/mine").touch()
    refused("birds: exists and is not empty, expected the name of a new study")


def test_numbers_grow_with_the_images_and_stay_in_bounds(photographs):
    found = survey(photographs)
    many = type(found)(**{**vars(found), "train": 1_200_000, "val": 50_000, "classes": tuple("abcdefghij")})
    numbers = recipe(many, 256)
    assert (numbers.tokens, numbers.patch, numbers.codebook) == (128, 16, 4096)
    assert numbers.tokenizer_steps == numbers.generator_steps == 50_000
    assert (numbers.samples, numbers.inception_splits, numbers.reconstruction_splits) == (5000, 10, 10)
    assert recipe(found, 32).tokens == 16


@pytest.mark.parametrize(("text", "name"), [("My Birds 2", "my-birds-2"), ("Vögel", "v-gel"), ("a_b", "a-b")])
def test_a_study_s_name_becomes_one_of_variants(text, name):
    assert variant_name(text) == name


def test_a_name_without_letters_is_refused():
    with pytest.raises(OnetokError, match="expected letters or digits"):
        variant_name("…")


# ---------------------------------------------------------------------------------------------- fine-tuning


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photographs):
    """A study of one's own images whose tokenizer and generator are there, untrained."""
    directory = tmp_path_factory.mktemp("first") / "first"
    new_study(directory, photographs, captions=False, size=32)
    leave_untrained(directory, ("tokenizers", "titok/vq-16"), ("generators", "maskgit/tiny"))
    for kind, name, stage, inputs in (
        ("tokenizers", "titok/vq-16", "train_tokenizer", []),
        ("tokens", "titok/vq-16", "cache_tokens", ["tokenizers/titok/vq-16"]),
        ("generators", "maskgit/tiny", "train_generator", ["tokens/titok/vq-16"]),
    ):
        leave_receipt(directory, kind, name, stage, inputs)
    return directory


def leave_receipt(directory, kind, name, stage, inputs):
    folder = directory / "results" / kind / name
    folder.mkdir(parents=True, exist_ok=True)
    entry = getattr(load_study(directory), kind)[name]
    weights = folder / "weights.safetensors"
    content = weights.read_bytes() if weights.exists() else b""
    receipt = {"stage": stage, "name": name, "version": 2, "params": entry.model_dump(mode="json")}
    digest = hashlib.sha256(content).hexdigest()
    receipt["inputs"] = {f"results/{i}/receipt.json": {"sha256": digest, "payloads": {}} for i in inputs}
    receipt["outputs"] = {"weights.safetensors": {"sha256": digest, "size": len(content)}}
    (folder / "receipt.json").write_text(json.dumps(receipt))


def test_a_tokenizer_of_another_study_is_fine_tuned_with_its_size_and_sizes(trained, photographs, tmp_path):
    directory = tmp_path / "second"
    folder = trained / "results/tokenizers/titok/vq-16"
    new_study(directory, photographs, captions=False, start=str(folder))
    study = load_study(directory)
    entry, first = study.tokenizers["titok/vq-16"], load_study(trained).tokenizers["titok/vq-16"]
    assert (entry.images.size, entry.model) == (32, first.model)
    assert entry.init_from.weights.file == str(folder / "weights.safetensors")
    assert 0 < entry.training.steps < first.training.steps
    assert study.generators["maskgit/tiny"].init_from is None


def test_a_generator_of_another_study_is_fine_tuned_on_its_tokenizer_as_it_is(trained, photographs, tmp_path):
    directory = tmp_path / "third"
    new_study(directory, photographs, captions=False, start=str(trained / "results/generators/maskgit/tiny"))
    study = load_study(directory)
    assert study.tokenizers["titok/vq-16"].training.steps == 0
    assert (
        "pictures" not in plan(study, "tokenizers", "titok/vq-16").outputs
    )  # nothing is trained that they show
    generator = study.generators["maskgit/tiny"]
    assert generator.init_from.weights.file.endswith("results/generators/maskgit/tiny/weights.safetensors")
    assert generator.classes == CLASSES


def test_a_released_tokenizer_is_fine_tuned_by_its_name(photographs, tmp_path):
    directory = tmp_path / "released"
    name = next(
        name
        for name, entry in load_study(REPOSITORY).tokenizers.items()
        if entry.kind == "published-titok" and entry.stages == 1 and entry.model.quantizer.kind == "vq"
    )
    new_study(directory, photographs, captions=False, start=name)
    entry = next(iter(load_study(directory).tokenizers.values()))
    assert entry.images.size == 256
    assert entry.init_from.layout == "titok_vq_single_stage"


def test_what_cannot_be_started_from_is_said(trained, photographs, tmp_path):
    folder = str(trained / "results/tokenizers/titok/vq-16")
    for match, options in (
        ("--from: nothing: expected a folder .*nearest known: published/", {"start": "nothing"}),
        ("--from: .* reads no captions", {"start": folder, "captions": True}),
        ("--size: found 64, but .* is of 32 px", {"start": folder, "size": 64}),
    ):
        with pytest.raises(OnetokError, match=match):
            new_study(tmp_path / "no", photographs, **{"captions": False, **options})
