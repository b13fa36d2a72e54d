"""Any text is data: as ids, beside images, in shards and in batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from onetok.data.batches import AugmentedImages, batches, caption_ids
from onetok.data.captions import VOCABULARY, CaptionTokenizer, report_truncated_captions
from onetok.data.class_names import imagenet_names, wordnet_synonyms
from onetok.data.shards import Shards, write_shards
from onetok.data.sources import read_splits
from onetok.data.tokens import TokenCache
from onetok.errors import OnetokError
from onetok.study.load import load_study
from onetok.study.schema.datasets import TrainingImages
from tests.unit.data.test_data import folder_dataset, folder_params, png, samples  # noqa: F401 (a fixture)

START, END = VOCABULARY - 2, VOCABULARY - 1
TOKENIZE = CaptionTokenizer(context_length=16)
FOLDERS = {"kind": "folders", "train": "train", "val": "val"}
TEXTS = {
    "empty": "",
    "spaces": " \n\t ",
    "long": "a photo of a cat " * 600,
    "one long word": "a" * 10_000,
    "many scripts": "zażółć 日本語 العربية 😀 \u200f\u0301",
    "newlines": "a\nb\r\n\rc",
    "shell": '"; rm -rf ~ $(x) `y` && {class} %s {0} \\',
    "control characters": "\0\x1b[31m\ud800",
    "control tokens": "<start_of_text> a <END_of_text> &lt;end_of_text&gt; cat",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_any_text_becomes_ids_with_one_start_and_one_end(text):
    (ids,) = TOKENIZE([text]).tolist()
    end = ids.index(END)
    assert ids[0] == START and ids.count(START) == ids.count(END) == 1
    assert set(ids[end + 1 :]) <= {0} and all(0 < i < START for i in ids[1:end])


def test_ids_are_those_of_open_clip_and_the_end_is_cut_off():
    from open_clip import tokenize

    texts = [text for name, text in TEXTS.items() if name != "control tokens"]
    assert torch.equal(TOKENIZE(texts), tokenize(texts, context_length=16))
    assert TOKENIZE([TEXTS["long"]])[0, -1] == END


def test_control_tokens_are_dropped_from_text():
    assert torch.equal(TOKENIZE([TEXTS["control tokens"]]), TOKENIZE(["a cat"]))


def test_no_captions_and_other_lengths():
    assert TOKENIZE([]).shape == (0, 16)
    assert CaptionTokenizer(context_length=3)(["a cat", ""]).tolist() == [[START, 320, END], [START, END, 0]]


def test_the_tokenizer_travels_to_other_processes():
    copy = pickle.loads(pickle.dumps(TOKENIZE))
    assert copy == TOKENIZE and torch.equal(copy(["a cat"]), TOKENIZE(["a cat"]))


# ---------------------------------------------------------------------------------------------- sources


def test_digits_are_captioned_by_their_names(smallest):
    dataset = load_study(smallest).datasets["labelled/digits"]
    val = list(read_splits(dataset)["val"])
    assert [s.caption for s in val if s.label in (0, 9)][:1] == ["a photo of the digit zero"]
    assert {s.caption for s in val if s.label == 9} == {"a photo of the digit nine"}
    without = dataset.model_copy(update={"source": dataset.source.model_copy(update={"caption": None})})
    assert {s.caption for s in read_splits(without)["val"]} == {None}


def test_a_text_beside_an_image_wins_over_the_template(folder_dataset):  # noqa: F811
    (folder_dataset / "train/dog/1.txt").write_text("")
    dataset = folder_params(folder_dataset, FOLDERS, caption="a {class}, {x}; {class}")
    train = list(read_splits(dataset)["train"])
    assert [s.caption for s in train[:3]] == ['"a cat"; rm -rf ~ $(x)\n日本', *["a cat, {x}; cat"] * 2]
    assert train[4].caption == ""


def test_a_text_keeps_its_line_ends(folder_dataset):  # noqa: F811
    (folder_dataset / "train/dog/1.txt").write_bytes(b"a\r\nb\rc\n\xe2\x80\xa8")
    train = list(read_splits(folder_params(folder_dataset, FOLDERS))["train"])
    assert train[4].caption == "a\r\nb\rc\n\u2028"


def test_a_caption_that_is_not_utf_8_is_named(folder_dataset):  # noqa: F811
    (folder_dataset / "train/dog/1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(OnetokError, match=r"train/dog/1\.txt: not UTF-8 text"):
        list(read_splits(folder_params(folder_dataset, FOLDERS))["train"])


def test_imagenet_names_need_its_classes(folder_dataset):  # noqa: F811
    dataset = folder_params(folder_dataset, FOLDERS, caption="A photo of {class}", names="imagenet")
    with pytest.raises(OnetokError, match="2 class sub-folders, class_names imagenet needs 1000"):
        read_splits(dataset)


def test_imagenet_names_follow_the_sorted_folders(tmp_path):
    for i in range(1000):
        (tmp_path / f"n{i:08d}").mkdir()
        (tmp_path / f"n{i:08d}" / "0.png").write_bytes(png(seed=0))
        (tmp_path / f"n{i:08d}" / "1.png").write_bytes(png(seed=0))
    split = {"kind": "hold-out", "per_class": 1, "seed": 0}
    dataset = folder_params(tmp_path, split, caption="A photo of {class}", names="imagenet")
    train = list(read_splits(dataset.model_copy(update={"classes": 1000}))["train"])
    assert train[0].caption == "A photo of tench" and train[207].caption == "A photo of Golden Retriever"
    assert train[999].caption == "A photo of toilet paper"


def test_names_of_the_release_hold_all_synonyms(repository, tmp_path):
    synonyms = wordnet_synonyms()
    source = load_study(repository).datasets["labelled/imagenet-release-captions"].source
    assert source.caption.replace("{class}", synonyms["n01440764"]) == "A photo of a tench, Tinca tinca."
    ids = [name for name in sorted(synonyms) if name.startswith("n0")][:1000]
    assert imagenet_names(ids, "imagenet-synonyms", tmp_path) == [synonyms[name] for name in ids]
    with pytest.raises(
        OnetokError, match=r"found a class sub-folder 'tench', expected an ImageNet id such as"
    ):
        imagenet_names([*ids[1:], "tench"], "imagenet-synonyms", tmp_path)


def test_the_released_tokenizers_are_scored_with_the_captions_of_release_and_paper(repository):
    study = load_study(repository)
    reads = {
        name: entry.benchmark for name, entry in study.tokenizers.items() if entry.text_encoder is not None
    }
    assert len(reads) == 20
    for name, benchmark in reads.items():
        form = "paper" if name.endswith("-paper-captions") else "release"
        size = "-512" if name.endswith("-512") else ""
        assert benchmark == f"reconstruction/imagenet{size}-{form}-captions"
        assert study.datasets[study.benchmarks[benchmark].dataset].source.caption is not None


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_the_captions_of_their_samples(tmp_path, workers):
    captioned = [sample._replace(caption=sample.caption or "") for sample in samples()]
    write_shards(captioned, tmp_path, samples_per_shard=3)
    shards = Shards(tmp_path)
    images = TrainingImages(
        resize="torchvision", shorter_edge=16, size=16, filter="bicubic", crop="center", flip=True, shift=2
    )
    read = AugmentedImages(shards, images, seed=5, tokenize=TOKENIZE)
    common = {"length": 7, "seed": 5, "batch": 7, "start": 0, "stop": 1, "rank": 0, "world": 1}
    (batch,) = batches(read, **common, workers=workers)
    expected = {(s.label, tuple(TOKENIZE([s.caption])[0].tolist())) for s in captioned}
    found = zip(batch.labels.tolist(), map(tuple, batch.captions.tolist()), strict=True)
    assert set(found) == expected
    assert torch.equal(caption_ids(shards, range(1, 3), TOKENIZE), TOKENIZE(["zażółć 1", ""]))


def test_where_nobody_reads_text_captions_have_no_length(tmp_path):
    write_shards(samples(), tmp_path, samples_per_shard=3)
    images = TrainingImages(
        resize="torchvision", shorter_edge=16, size=16, filter="bicubic", crop="center", flip=True, shift=2
    )
    read = AugmentedImages(Shards(tmp_path), images, seed=5, tokenize=None)
    batch = read(np.arange(3), np.arange(3))
    assert batch.captions.shape == (3, 0) and batch.captions.dtype == torch.int64
    np.save(tmp_path / "tokens.npy", np.zeros((2, 1, 4), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(2, dtype=np.int32))
    assert TokenCache(tmp_path)(np.arange(2), np.arange(2)).captions.shape == (2, 0)


def test_captions_that_are_cut_are_counted(capsys, monkeypatch):
    captions = ["a red circle", "one two three four five six", "<end_of_text>" * 9, "one " * 50]
    report_truncated_captions("train_generator maskgen/vq", iter(captions), context_length=7)
    assert capsys.readouterr().err == (
        "warning: train_generator maskgen/vq: 2 of 4 captions are longer than the 5 tokens that the text encoder "
        "takes and are truncated, the first 'one two three four five six'\n"
    )
    monkeypatch.setattr("onetok.data.captions.LOOKED_AT", 2)
    report_truncated_captions("x", iter(captions), context_length=7)
    assert "1 of the first 2 captions" in capsys.readouterr().err
    report_truncated_captions("x", ["a red circle"], context_length=5)
    monkeypatch.setenv("RANK", "1")
    report_truncated_captions("x", captions, context_length=5)
    assert capsys.readouterr().err == ""
