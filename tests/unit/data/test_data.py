import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torchvision import transforms

from onetok.data.batches import AugmentedImages, batches, image_batches, sample_indices
from onetok.data.images import (
    augment,
    crop_centre,
    encode_png,
    five_crops,
    prepare,
    resize,
    to_float,
    to_uint8,
)
from onetok.data.shards import Shards, write_shards
from onetok.data.sources import Sample, read_splits
from onetok.data.tokens import TokenCache, id_dtype, to_stored
from onetok.errors import OnetokError
from onetok.nn.quantizers import Posterior, Tokens
from onetok.stages.cache_tokens import views
from onetok.study.load import load_study
from onetok.study.schema.datasets import Dataset, Images, TrainingImages
from onetok.study.schema.tokens import Tokens as TokensParams

PLAIN = Images(resize="torchvision", shorter_edge=16, size=16, filter="bicubic")


def png(size=(16, 16), mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def samples(count=7):
    return [
        Sample(f"key-{i}", png(seed=i), "png", i % 3, f"zażółć {i}" if i % 2 else None) for i in range(count)
    ]


def test_shards_are_byte_identical_twice_and_hold_every_sample(tmp_path):
    for folder in ("a", "b"):
        write_shards(samples(), tmp_path / folder, samples_per_shard=3)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["index.npy", "shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    shards = Shards(tmp_path / "a")
    for i, sample in enumerate(samples()):
        assert (shards.key(i), shards.image(i), shards.labels[i]) == (sample.key, sample.image, sample.label)
        if sample.caption is not None:
            assert shards.caption(i) == sample.caption


def test_no_caption_is_an_error_and_an_empty_one_is_a_caption(tmp_path):
    write_shards([Sample("a", png(), "png", 0, "")], tmp_path / "empty", 2)
    shards = Shards(tmp_path / "empty")
    shards.check_captions()
    assert shards.caption(0) == ""
    write_shards(samples(), tmp_path / "some", 3)
    for ask in (Shards(tmp_path / "some").check_captions, lambda: Shards(tmp_path / "some").caption(0)):
        with pytest.raises(OnetokError, match=r"some: sample key-0 has no caption, expected key-0\.txt"):
            ask()


def test_webdataset_reads_the_shards(tmp_path):
    write_shards(samples(), tmp_path, samples_per_shard=3)
    urls = [str(p) for p in sorted(tmp_path.glob("*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [r["__key__"] for r in read] == [s.key for s in samples()]
    assert [r["cls"] for r in read] == [s.label for s in samples()]
    assert read[1]["txt"] == "zażółć 1"


def test_tar_members_carry_no_clock_and_no_owner(tmp_path):
    write_shards(samples(2), tmp_path, samples_per_shard=3)
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        assert {(m.mtime, m.uname, m.gname, m.mode) for m in tar} == {(0, "onetok", "onetok", 0o644)}


def test_a_truncated_shard_is_an_error(tmp_path):
    write_shards(samples(), tmp_path, samples_per_shard=9)
    tar = tmp_path / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:1500])
    with pytest.raises(OnetokError, match=r"shard-000000\.tar: truncated: sample key-6"):
        Shards(tmp_path).image(6)


def test_two_samples_of_one_key_are_refused(tmp_path):
    with pytest.raises(OnetokError, match="two samples have the key 'key-0', expected unique keys"):
        write_shards([samples()[0], samples()[0]], tmp_path, samples_per_shard=1)


def test_digits_are_split_evenly_and_without_overlap(smallest):
    splits = read_splits(load_study(smallest).datasets["labelled/digits"])
    train, val = list(splits["train"]), list(splits["val"])
    assert len(train) + len(val) == 1797
    assert np.bincount([s.label for s in val]).tolist() == [10] * 10
    assert not {s.key for s in train} & {s.key for s in val}
    assert prepare(
        val[0].image, Images(resize="torchvision", shorter_edge=32, size=32, filter="bicubic")
    ).shape == (3, 32, 32)


@pytest.fixture
def folder_dataset(tmp_path):
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").write_bytes(png((24, 18), seed=10 * label + i))
            (folder / "0.txt").write_text(f'"a {name}"; rm -rf ~ $(x)\n日本')
    return tmp_path / "pictures"


def folder_params(path, split, caption=None, names="folders"):
    return Dataset.model_validate(
        {
            "source": {"kind": "imagefolder", "path": str(path), "caption": caption, "class_names": names},
            "split": split,
            "classes": 2,
            "samples_per_shard": 4,
        }
    )


def test_image_folder_keeps_bytes_and_captions(folder_dataset):
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    train = list(read_splits(dataset)["train"])
    assert [s.label for s in train] == [0, 0, 0, 1, 1, 1]
    assert train[0].image == (folder_dataset / "train/cat/0.png").read_bytes()
    assert train[0].caption == '"a cat"; rm -rf ~ $(x)\n日本' and train[1].caption is None
    assert train[0].key == "train/cat/0"


def test_a_validation_folder_that_links_to_that_of_training_is_named(folder_dataset):
    (folder_dataset / "again").symlink_to("train")
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "again"})
    with pytest.raises(OnetokError, match=r"again: is the same folder as .*/train, expected other images"):
        read_splits(dataset)


def test_image_folder_without_splits_is_held_out(folder_dataset):
    dataset = folder_params(folder_dataset / "train", {"kind": "hold-out", "per_class": 1, "seed": 0})
    splits = read_splits(dataset)
    assert (len(splits["train"]), len(splits["val"])) == (4, 2)


def test_images_for_evaluation_alone_have_no_train_split(folder_dataset):
    splits = read_splits(folder_params(folder_dataset / "val", {"kind": "evaluation"}))
    assert {name: [s.key for s in split] for name, split in splits.items()} == {
        "val": [f"{name}/{i}" for name in ("cat", "dog") for i in range(3)]
    }


def test_a_file_that_is_no_image_is_named(folder_dataset):
    (folder_dataset / "train/cat/1.png").write_text("not an image")
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    with pytest.raises(OnetokError, match=r"train/cat/1.png: not a readable image"):
        list(read_splits(dataset)["train"])


def test_an_image_too_large_to_decode_is_named(folder_dataset, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    with pytest.raises(OnetokError, match=r"train/cat/0.png: not a readable image: .*exceeds limit"):
        list(read_splits(dataset)["train"])


def test_a_class_that_the_validation_images_lack_is_named(folder_dataset):
    split = {"kind": "folders", "train": "train", "val": "val"}
    shutil.rmtree(folder_dataset / "val/dog")
    with pytest.raises(
        OnetokError, match=r"val/dog: no such class folder, expected every class of the train split"
    ):
        read_splits(folder_params(folder_dataset, split))
    (folder_dataset / "val/dog").mkdir()
    with pytest.raises(OnetokError, match=r"val/dog: no image that can be read, expected images in it"):
        read_splits(folder_params(folder_dataset, split))


def test_a_name_that_is_not_utf_8_is_said_before_anything_is_read(folder_dataset):
    path = os.fsencode(folder_dataset / "train/cat") + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(png())
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    with pytest.raises(OnetokError, match=r"train/cat/caf.udce9.png: its name is not UTF-8"):
        read_splits(dataset)


def test_wrong_number_of_classes(folder_dataset):
    dataset = folder_params(folder_dataset, {"kind": "folders", "train": "train", "val": "val"})
    with pytest.raises(OnetokError, match=r"pictures/train: 2 class sub-folders \(cat, dog\), expected 5"):
        read_splits(dataset.model_copy(update={"classes": 5}))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode):
    content = png((20, 30), "RGB")
    image = Image.open(io.BytesIO(content)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="TIFF" if mode == "CMYK" else "PNG")
    assert prepare(buffer.getvalue(), PLAIN).shape == (3, 16, 16)


def test_crops_and_views():
    content = png((32, 16))
    crops = five_crops(content, PLAIN, flip=False)
    assert len(crops) == 5 and all(c.shape == (3, 16, 16) for c in crops)
    assert np.array_equal(crops[4], prepare(content, PLAIN))
    assert not np.array_equal(crops[0], crops[1])


@pytest.mark.parametrize("edge", [16, 33])
def test_resizing_and_centre_crop_are_torchvision_s(edge):
    """The longer edge is truncated, and half a pixel goes the same way."""
    reference = transforms.Compose(
        [transforms.Resize(edge, interpolation=Image.Resampling.BICUBIC), transforms.CenterCrop(16)]
    )
    images = Images(resize="torchvision", shorter_edge=edge, size=16, filter="bicubic")
    rng = np.random.default_rng(0)
    for width, height in [(500, 332), (332, 500), (16, 16), (17, 16), *rng.integers(16, 120, (150, 2))]:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        assert resize(image, images).size == transforms.Resize(edge)(image).size
        expected = np.asarray(reference(image)).transpose(2, 0, 1)
        assert np.array_equal(crop_centre(image, images), expected), (width, height)


def adm_centre_crop(image, size):
    """As guided-diffusion's center_crop_arr computes it."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC)
    pixels = np.array(image)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (400, 400), (1200, 700), (281, 300)])
def test_rar_s_ten_crops_lie_in_adm_s_centre_crop(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    square = Image.fromarray(adm_centre_crop(image, 281))
    entry = TokensParams.model_validate(
        {
            "tokenizer": "published/maskgit-vqgan",
            "dataset": "labelled/imagenet",
            "split": "train",
            "images": {"resize": "adm", "shorter_edge": 281, "size": 256, "filter": "bicubic"},
            "crops": "five",
            "flip": True,
            "batch": 1,
            "captions": None,
        }
    )
    found = {view.tobytes() for view in views(buffer.getvalue(), entry)}
    reference = [np.asarray(crop).transpose(2, 0, 1) for crop in transforms.TenCrop(256)(square)]
    assert found == {np.ascontiguousarray(crop).tobytes() for crop in reference} and len(found) == 10
    centre = Images(resize="adm", shorter_edge=256, size=256, filter="bicubic")
    assert np.array_equal(prepare(buffer.getvalue(), centre).transpose(1, 2, 0), adm_centre_crop(image, 256))


def test_every_place_of_a_random_crop_is_as_likely_as_the_others():
    images = TrainingImages(
        resize="torchvision", shorter_edge=16, size=16, filter="bicubic", crop="random", flip=False, shift=0
    )
    content = encode_png(np.tile(np.arange(20, dtype=np.uint8), (3, 16, 1)))  # a pixel's value is its column
    rng = np.random.default_rng(0)
    places = [int(augment(content, images, rng)[0, 0, 0]) for _ in range(1000)]
    assert all(150 < places.count(left) < 250 for left in range(5)), [places.count(i) for i in range(5)]


def test_augmentation_is_a_function_of_its_generator():
    images = TrainingImages(
        resize="torchvision", shorter_edge=20, size=16, filter="bicubic", crop="random", flip=True, shift=2
    )
    a, b, c = (augment(png((32, 32)), images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_rounding_to_bytes():
    assert to_uint8(torch.tensor([-1.0, 0.0, 0.5, 0.999, 2.0])).tolist() == [0, 0, 128, 255, 255]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))).transpose(2, 0, 1), image)


def test_every_epoch_visits_every_sample_once_and_orders_differ():
    seen = np.concatenate([sample_indices(3, step, 4, 10)[1] for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:])


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_do_not_depend_on_start_workers_or_processes(tmp_path, workers):
    write_shards(samples(), tmp_path, samples_per_shard=3)
    images = TrainingImages(
        resize="torchvision", shorter_edge=16, size=16, filter="bicubic", crop="center", flip=True, shift=2
    )
    read = AugmentedImages(Shards(tmp_path), images, seed=5, tokenize=None)
    common = {"length": 7, "seed": 5, "batch": 4, "stop": 4}
    whole = list(batches(read, **common, start=0, rank=0, world=1, workers=workers))
    later = list(batches(read, **common, start=2, rank=0, world=1, workers=0))
    for a, b in zip(whole[2:], later, strict=True):
        assert torch.equal(a.inputs, b.inputs)
    halves = [list(batches(read, **common, start=0, rank=r, world=2, workers=0)) for r in (0, 1)]
    for step, batch in enumerate(whole):
        joined = torch.cat([halves[0][step].inputs, halves[1][step].inputs])
        assert torch.equal(batch.inputs, joined)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_batches_keep_order_and_the_last_partial_batch(tmp_path, workers):
    write_shards(samples(), tmp_path, samples_per_shard=3)
    parts = list(image_batches(Shards(tmp_path), PLAIN, 3, workers))
    assert [len(p) for p in parts] == [3, 3, 1]


@pytest.mark.parametrize(
    ("size", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (4096, "uint16"), (65537, "uint32")]
)
def test_ids_take_the_smallest_type(size, dtype):
    assert id_dtype(size) == np.dtype(dtype)


def test_token_cache_reads_views(tmp_path):
    ids = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    np.save(tmp_path / "tokens.npy", ids)
    np.save(tmp_path / "labels.npy", np.array([5, 6], dtype=np.int32))
    cache = TokenCache(tmp_path)
    assert (len(cache), cache.length) == (6, 4)
    batch = cache(np.array([0, 1]), np.array([4, 0]))
    assert batch.inputs.tolist() == [ids[1, 1].tolist(), ids[0, 0].tolist()]
    assert batch.labels.tolist() == [6, 5]


def test_token_cache_keeps_posteriors_as_float16_mean_and_log_variance(tmp_path):
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(3, 4, 2, generator=generator) for _ in range(2))
    stored = to_stored(Tokens(mean, None, Posterior(mean, log_variance)), None)
    assert (stored.shape, stored.dtype) == ((3, 2, 4, 2), np.float16)
    np.save(tmp_path / "tokens.npy", stored[:, None])  # one view of each image
    np.save(tmp_path / "labels.npy", np.array([5, 6, 7], dtype=np.int32))
    cache = TokenCache(tmp_path)
    assert (len(cache), cache.length, cache.discrete) == (3, 4, False)
    batch = cache(np.array([0]), np.array([2]))
    assert batch.inputs.dtype == torch.float32
    torch.testing.assert_close(batch.inputs[0, 0], mean[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(batch.inputs[0, 1], log_variance[2], rtol=1e-3, atol=1e-4)


def test_a_posterior_beyond_float16_is_refused():
    far = torch.full((1, 4, 2), 1e5)
    with pytest.raises(OnetokError, match=r"a posterior holds 1e\+05, expected what float16 can hold"):
        to_stored(Tokens(far, None, Posterior(far, torch.zeros_like(far))), None)
