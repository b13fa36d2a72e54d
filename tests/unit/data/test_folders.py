"""Folders of images as people have them: what becomes of each file, and which line says so."""

import io
import json
import os
import re
import socket
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onetok.data.shards import Shards, write_shards
from onetok.data.sources import read_splits, report
from onetok.errors import OnetokError
from onetok.study.schema.datasets import Dataset

ALL = {"kind": "evaluation"}


def png(size=(16, 12), seed=0):
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def birds(tmp_path):
    """Two classes of three images each."""
    for name in ("heron", "wren"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "birds" / name / f"{i}.png").write_bytes(png(seed=i))
    return tmp_path / "birds"


def params(folder, split=ALL, classes=2, caption="a {class}", **policy):
    source = {"kind": "imagefolder", "path": str(folder), "caption": caption, "class_names": "folders"}
    return Dataset.model_validate(
        {"source": {**source, **policy}, "split": split, "classes": classes, "samples_per_shard": 4}
    )


def skipping(folder, share=0.9, **more):
    return params(folder, on_bad_sample="skip", max_bad_share=share, **more)


def read(dataset):
    return list(read_splits(dataset)["val"])


def spoil(kind, folder):
    """Put one bad sample beside good ones; return the reason that the report gives."""
    match kind:
        case "named pipe":
            os.mkfifo(folder / "x.png")
            return "not a regular file"
        case "socket":
            listener, here = socket.socket(socket.AF_UNIX), Path.cwd()
            os.chdir(folder)  # the path of a socket may not be long
            listener.bind("x.png")
            os.chdir(here)
            listener.close()
            return "not a regular file"
        case "folder":
            (folder / "x.png").mkdir()
            return "not a regular file"
        case "link to nothing":
            (folder / "x.png").symlink_to("nowhere.png")
            return "not a regular file"
        case "link to itself":
            (folder / "x.png").symlink_to("x.png")
            return "not a regular file"
        case "link to a device":
            (folder / "x.png").symlink_to("/dev/zero")
            return "not a regular file"
        case "linked folder":
            (folder.parent.parent / "elsewhere").mkdir()
            (folder.parent.parent / "elsewhere/1.png").write_bytes(png())
            (folder / "x.more").symlink_to(folder.parent.parent / "elsewhere")
            return "linked folder"
        case "no image":
            (folder / "x.png").write_text("not an image")
            return "not a readable image"
        case "cut image":
            (folder / "x.png").write_bytes(png()[:200])
            return "not a readable image"
        case "narrow image":
            (folder / "x.png").write_bytes(png((300, 1)))
            return "not a readable image"
        case "other image":
            (folder / "x.tif").write_bytes(b"II*\0")
            (folder / "x.txt").write_text("the caption of a file that is named already")
            return "neither an image nor beside one"
        case "beside the classes":
            (folder.parent / "x.png").write_bytes(png())
            return "image outside of a class folder"
        case "caption of no image":
            (folder / "x.txt").write_text("a heron")
            return "caption or record without an image"
        case "caption in another case":
            (folder / "x.png").write_bytes(png())
            (folder / "x.TXT").write_text("a heron")
            return "caption or record with another name"
        case "caption with two suffixes":
            (folder / "x.png").write_bytes(png())
            (folder / "x.png.txt").write_text("a heron")
            return "caption or record with another name"
        case "caption that is a pipe":
            (folder / "x.png").write_bytes(png())
            os.mkfifo(folder / "x.txt")
            return "not a regular file"
        case "caption in Latin 1":
            (folder / "x.png").write_bytes(png())
            (folder / "x.txt").write_bytes(b"h\xe9ron")
            return "caption that cannot be used"
        case "endless record":
            (folder / "x.png").write_bytes(png())
            with (folder / "x.json").open("wb") as stream:
                stream.truncate(10**12)  # of which the disk holds nothing
            return "file that cannot be read"
        case "deep record":
            (folder / "x.png").write_bytes(png())
            (folder / "x.json").write_text("[" * 100_000)
            return "record that cannot be used"
        case "long number":
            (folder / "x.png").write_bytes(png())
            (folder / "x.json").write_text(
                '{"aesthetic": ' + "9" * 5000 + ', "augmented": null, "prompt": null}'
            )
            return "record that cannot be used"
        case "key twice":
            (folder / "x.png").write_bytes(png())
            (folder / "x.json").write_text(
                '{"aesthetic": 4, "aesthetic": 5, "augmented": null, "prompt": null}'
            )
            return "record that cannot be used"
    raise AssertionError(kind)


KINDS = re.findall(r'case "(.+)":', Path(__file__).read_text())[:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_sample_is_an_error_that_names_it_or_is_skipped_and_counted(kind, birds):
    reason = spoil(kind, birds / "heron")
    with pytest.raises(OnetokError, match=r"birds/(heron/)?x\.\w") as error:
        read_splits(params(birds))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    splits = read_splits(skipping(birds))
    kept = list(splits["val"])
    assert [sample.key for sample in kept] == [f"{name}/{i}" for name in ("heron", "wren") for i in range(3)]
    found = report(splits, {"val": np.array([sample.label for sample in kept], dtype=np.int32)})
    (skipped,) = found["skipped"]
    assert (skipped["reason"], skipped["count"]) == (reason, 1)
    assert skipped["first"][0].removeprefix("heron/").startswith("x.")
    with pytest.raises(OnetokError, match=r"that is 14\.29% of all, but max_bad_share is 0\.1"):
        read_splits(skipping(birds, share=0.1))


def test_hidden_files_and_folders_never_count(birds):
    before = [sample.key for sample in read(params(birds))]
    for name in (".DS_Store", ".x.png", "._0.png", "Thumbs.db", "desktop.ini"):
        (birds / "heron" / name).write_bytes(b"\0")
        (birds / name).write_bytes(b"\0")
    for folder in (birds / ".ipynb_checkpoints", birds / "heron/.git"):
        folder.mkdir()
        (folder / "x.png").write_bytes(b"\0")
    (birds / "LICENSE.txt").write_text("of the pictures")  # no image, and in no class
    assert [sample.key for sample in read(params(birds))] == before


def test_several_bad_samples_are_counted_by_reason_on_one_line(birds):
    for i in range(7):
        (birds / "wren" / f"bad-{i}.png").write_bytes(b"\0")
    with pytest.raises(OnetokError, match=r"wren/bad-0\.png: .*samples in all: 7 not a readable image"):
        read_splits(params(birds))
    splits = read_splits(skipping(birds))
    found = report(splits, {"val": np.array([s.label for s in splits["val"]], dtype=np.int32)})
    first = [f"wren/bad-{i}.png" for i in range(5)]
    assert found["skipped"] == [{"reason": "not a readable image", "count": 7, "first": first}]
    assert found["classes"][1] == {"label": 1, "name": "wren", "val": 3}


def test_a_class_without_an_image_is_named(birds):
    (birds / "owl").mkdir()
    with pytest.raises(OnetokError, match=r"birds/owl: no image that can be read"):
        read_splits(skipping(birds, classes=3))
    (birds / "owl/1.png").write_bytes(b"\0")
    with pytest.raises(OnetokError, match=r"birds/owl: no image that can be read"):
        read_splits(skipping(birds, classes=3))


def test_messages_name_class_folders(birds):
    with pytest.raises(OnetokError, match=r"birds: 2 class sub-folders \(heron, wren\), expected 3"):
        read_splits(params(birds, classes=3))
    held_out = {"kind": "hold-out", "per_class": 3, "seed": 0}
    with pytest.raises(OnetokError, match=r"birds/heron: 3 images, cannot hold out 3 \(split\.per_class"):
        read_splits(params(birds, split=held_out))


def test_bad_samples_are_not_held_out(birds):
    (birds / "heron/3.png").write_bytes(b"\0")
    dataset = skipping(birds, split={"kind": "hold-out", "per_class": 2, "seed": 0})
    splits = read_splits(dataset)
    assert [len(list(splits[name])) for name in ("train", "val")] == [2, 4]


def test_names_that_were_one_key_are_several(tmp_path):
    names = [
        "a/b-1.png",
        "a-b/1.png",
        "a/b/1.png",
        "a/x.y.png",
        "a/x_y.png",
        "a/x%2Ey.png",
        "a/z.jpg",
        "a/z.png",
    ]
    names += ["a/z.PNG", "a/z.png.png", "a/z%png.png", "a/line\nend.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png())
    kept = read(params(tmp_path))
    assert len({sample.key for sample in kept}) == len(kept) == len(names)
    assert {"a/b-1", "a-b/1", "a/b/1", "a/x%2Ey", "a/x_y", "a/x%252Ey"} <= {sample.key for sample in kept}
    write_shards(kept, tmp_path / "shards", 100)
    assert len(Shards(tmp_path / "shards")) == len(names)


def test_folders_named_by_numbers_have_the_numbers_as_labels(tmp_path):
    for label in range(12):
        (tmp_path / str(label)).mkdir()
        (tmp_path / str(label) / "1.png").write_bytes(png())
    kept = read(params(tmp_path, classes=12))
    assert [(s.label, s.caption) for s in kept] == [(i, f"a {i}") for i in range(12)]


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [("07", "7", "number"), ("Wren", "wren", "case"), ("h\u00e9ron", "he\u0301ron", "spelling of accents")],
)
def test_classes_that_are_one_elsewhere_are_refused(one, other, why, tmp_path):
    for name in (one, other):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png())
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(OnetokError, match=f"the class folders .* have the same n.*{why}|same number"):
        read_splits(params(tmp_path))


def test_a_caption_whose_accents_are_spelled_otherwise_is_no_caption_of_nothing(birds):
    composed = "h\u00e9ron"
    (birds / "heron" / f"{composed}.png").write_bytes(png())
    (birds / "heron" / f"{unicodedata.normalize('NFD', composed)}.txt").write_text("a heron")
    if not (birds / "heron" / f"{composed}.txt").exists():
        with pytest.raises(OnetokError, match=r"expected h.ron\.txt, the name of what belongs to"):
            read_splits(params(birds))


def test_byte_order_marks_go(birds):
    mark = b"\xef\xbb\xbf"
    (birds / "heron/0.txt").write_bytes(mark + "a grey heron, é".encode())
    (birds / "heron/0.json").write_bytes(mark + b'{"aesthetic": 5.0, "augmented": null, "prompt": null}')
    sample = read(params(birds))[0]
    assert sample.caption == "a grey heron, é" and sample.record.aesthetic == 5.0


def test_links_to_images_and_to_class_folders_are_followed(birds, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/heron").symlink_to(birds / "heron")
    (tmp_path / "linked/wren").mkdir()
    (tmp_path / "linked/wren/9.png").symlink_to(birds / "wren/1.png")
    assert [s.key for s in read(params(tmp_path / "linked"))] == ["heron/0", "heron/1", "heron/2", "wren/9"]


@pytest.mark.parametrize("change", ["vanishes", "changes"])
def test_a_file_that_goes_while_it_is_converted_is_named_or_counted(change, birds):
    def spoil_last(dataset):
        splits = read_splits(dataset)
        path = birds / "wren/2.png"
        content = path.read_bytes()
        path.unlink()
        if change == "changes":
            path.write_bytes(png(seed=99))
        kept, error = [], None
        try:
            kept = list(splits["val"])
        except OnetokError as raised:
            error = str(raised)
        path.write_bytes(content)
        return splits, kept, error

    _, _, error = spoil_last(params(birds))
    assert error is not None and re.search(r"wren/2\.png: (no such file|changed while)", error)
    splits, kept, error = spoil_last(skipping(birds))
    assert error is None and len(kept) == 5
    labels = np.array([sample.label for sample in kept], dtype=np.int32)
    skipped = [{"reason": "file that vanished or changed", "count": 1, "first": ["wren/2.png"]}]
    assert report(splits, {"val": labels})["skipped"] == skipped


def test_the_share_of_bad_samples_belongs_to_skipping(smallest):
    from onetok.study.load import load_study

    path = smallest / "params/datasets/labelled.yaml"
    text = path.read_text()
    source = "source: {kind: imagefolder, path: x, caption: null, class_names: folders, "
    for policy, message in (
        ("on_bad_sample: skip}", r"max_bad_share: missing, on_bad_sample skip needs"),
        ("on_bad_sample: fail, max_bad_share: 0.1}", r"max_bad_share: found 0\.1, but on_bad_sample is fail"),
    ):
        path.write_text(re.sub(r"source: \{.*\}", source + policy, text))
        with pytest.raises(OnetokError, match=message):
            load_study(smallest)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ("train", "train", r"split\.val: found train, the folder of train"),
        ("train", "./train", r"split\.val: found \./train, the folder of train"),
        (
            "train",
            "train/../train",
            r"split\.val: found train/\.\./train, expected a folder below source\.path",
        ),
        ("/train", "val", r"split\.train: found /train, expected a folder below source\.path"),
    ],
)
def test_validation_images_are_other_images(smallest, train, val, message):
    from onetok.study.load import load_study

    path = smallest / "params/datasets/labelled.yaml"
    source = "{kind: imagefolder, path: x, caption: null, class_names: folders, on_bad_sample: fail}"
    text = re.sub(r"source: \{.*\}", f"source: {source}", path.read_text())
    path.write_text(re.sub(r"split: \{.*\}", f"split: {{kind: folders, train: {train}, val: {val}}}", text))
    with pytest.raises(OnetokError, match=message):
        load_study(smallest)


def test_the_report_says_what_was_converted(birds, tmp_path):
    """As the stage writes it, beside the shards."""
    from onetok.stages import convert_dataset as stage

    class Lines:
        job = type("Job", (), {"name": "labelled/birds"})
        processes = type("Processes", (), {"is_main_process": True})
        folder = tmp_path / "results"
        study = type("Study", (), {"datasets": {"labelled/birds": skipping(birds)}})

    (birds / "heron/x.gif").write_bytes(b"GIF89a")
    stage.convert_dataset(Lines)
    found = json.loads((tmp_path / "results/report.json").read_text())
    assert found["images"] == {"val": 6}
    assert [each["name"] for each in found["classes"]] == ["heron", "wren"]
    assert found["skipped"][0]["first"] == ["heron/x.gif"]
