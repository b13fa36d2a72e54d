"""Sources of datasets: scikit-learn's digits, synthetic scenes, and folders of images; and their split.

A pool is all images of a source. Its items are pairs (label, number), of which each split takes some.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onetok.data import scenes
from onetok.data.class_names import imagenet_names
from onetok.data.folders import (
    IMAGE_BYTES,
    NO_CAPTION,
    NO_IMAGE,
    NO_RECORD,
    TEXT_BYTES,
    VANISHED,
    BadSampleError,
    BadSamples,
    ImageFile,
    class_folders,
    image_files,
    read_file,
)
from onetok.data.images import RESAMPLING, check_shape, decode
from onetok.errors import OnetokError, shown_path
from onetok.progress import track
from onetok.study.scene_requests import SHAPES
from onetok.study.schema.datasets import (
    Dataset,
    DigitsSource,
    EvaluationOnly,
    HoldOut,
    ImageFolderSource,
    ScenesSource,
    SplitFolders,
    SplitScenes,
)
from onetok.study.schema.records import Record, read_record

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Sample(NamedTuple):
    """One sample of a dataset, as it is written to a shard."""

    key: str  # unique within its split, without dots
    image: bytes  # an encoded image file
    suffix: str  # "png", "jpg", …
    label: int
    caption: str | None
    record: Record | None = None


class DigitsPool:
    """The scanned digits of scikit-learn, 8x8 pixels of grey levels 0 … 16, resized to square RGB PNGs."""

    def __init__(self, source: DigitsSource) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.source, self.images, self.labels = source, digits.images, digits.target
        self.classes = [str(name) for name in digits.target_names]

    def describe_classes(self) -> str:
        """Return a description of the classes for error messages."""
        return f"digits: {len(self.classes)} classes"

    def describe_class(self, label: int) -> str:
        """Return the name of a class for error messages."""
        return f"digits: class {self.classes[label]}"

    def items(self) -> list[tuple[int, int]]:
        """Return label and number of every digit."""
        return [(int(label), index) for index, label in enumerate(self.labels)]

    def read(self, label: int, item: int) -> Sample:
        """Return the sample of an item."""
        grey = Image.fromarray(np.rint(self.images[item] * (255 / 16)).astype(np.uint8))
        size = (self.source.size, self.source.size)
        image = grey.resize(size, RESAMPLING[self.source.filter]).convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        caption = _caption(self.source.caption, DIGITS[label])
        return Sample(f"digit-{item:04d}", buffer.getvalue(), "png", label, caption)


class ScenesPool:
    """Scenes as PNGs; the numbers of items count the scenes of all splits that were asked for."""

    def __init__(self, source: ScenesSource) -> None:
        self.source, self.listed = source, list[tuple[scenes.Split, int]]()
        self.classes = [f"{color} {shape}" for shape in SHAPES for color in source.colors]

    def describe_classes(self) -> str:
        """Return a description of the classes for error messages."""
        return f"scenes: {len(self.classes)} classes, one for each shape in each colour"

    def items(self, split: scenes.Split, count: int) -> list[tuple[int, int]]:
        """Return label and number of the first `count` scenes of a split."""
        found = []
        for index in range(count):
            scene = scenes.scene(self.source, split, index)
            found.append((scene.label(self.source.colors), len(self.listed)))
            self.listed.append((split, index))
        return found

    def read(self, label: int, item: int) -> Sample:
        """Return the sample of an item."""
        split, index = self.listed[item]
        scene = scenes.scene(self.source, split, index)
        buffer = io.BytesIO()
        Image.fromarray(scenes.draw(scene, self.source).transpose(1, 2, 0)).save(buffer, format="PNG")
        key = f"{split}-{index:06d}"
        return Sample(key, buffer.getvalue(), "png", label, scene.request.caption, scene.record)


class FolderPool:
    """Class folders of image files. An image's own caption file has precedence over the caption template.

    Listing the items decodes every image, so that bad samples are known before the dataset is split and written.
    """

    def __init__(self, source: ImageFolderSource, folder: str | None) -> None:
        self.root, self.source = Path(source.path), source
        if not self.root.is_dir():
            raise OnetokError(f"{shown_path(self.root)}: no such folder (source.path of the dataset)")
        self.bad = BadSamples(self.root)
        self.folder = self._folder(folder)
        self.classes = class_folders(self.folder, self.bad.add)
        self.labels = {name: label for label, name in enumerate(self.classes)}
        self.names = self._names(source)
        self.files: list[ImageFile] = []  # the good samples of all splits, by number
        score = source.aesthetic  # of images that have no record of their own
        self.record = None if score is None else Record(aesthetic=score, augmented=None, prompt=None)
        self.checksums = array("I")  # CRC-32 of each image with its caption and record

    def _names(self, source: ImageFolderSource) -> Sequence[str]:
        """Return the class names that captions use, in the order of the labels."""
        if source.caption is None or source.class_names == "folders":
            return self.classes
        return imagenet_names(self.classes, source.class_names, self.root)

    def _folder(self, folder: str | None) -> Path:
        path = self.root / folder if folder else self.root
        if not path.is_dir():
            raise OnetokError(f"{shown_path(path)}: no such folder (split of the dataset)")
        return path

    def describe_classes(self) -> str:
        """Return a description of the classes for error messages."""
        names = ", ".join(shown_path(name) for name in self.classes[:5])
        listed = f"{shown_path(self.folder)}: {len(self.classes)} class sub-folders ({names}"
        wrong = f", and bad ones: {self.bad.named()}" if self.bad.count else ""
        return f"{listed}{', …' if len(self.classes) > 5 else ''}{wrong})"

    def describe_class(self, label: int) -> str:
        """Return the name of a class for error messages."""
        return shown_path(self.folder / self.classes[label])

    def items(self, *folders: str | None) -> tuple[list[tuple[int, int]], ...]:
        """Return label and number of the good samples of each folder; None is the source folder itself.

        Raises OnetokError for more bad samples than params allow, for a class folder without a good sample, where the
        classes of the folders differ, and for folders that are one and the same: images of validation would be
        trained on.
        """
        paths = [self._folder(folder) for folder in folders]
        for one, other in itertools.combinations(paths, 2):
            if one.samefile(other):
                raise OnetokError(
                    f"{shown_path(other)}: is the same folder as {shown_path(one)}, expected other images"
                )
        classes = [self._classes_of(path) for path in paths]
        listed = [list(self._listed(path, names)) for path, names in zip(paths, classes, strict=True)]
        self._check(paths, classes, listed)  # errors in names are found before hours of decoding
        usable = [list(self._usable(files)) for files in listed]
        self._check(paths, classes, usable)
        return tuple(usable)

    def _classes_of(self, folder: Path) -> list[str]:
        if folder == self.folder:
            return self.classes
        names = class_folders(folder, self.bad.add)
        for name in names:
            if name not in self.labels:
                raise OnetokError(f"{shown_path(folder / name)}: this class is not in the train split")
        missing = [name for name in self.classes if name not in set(names)]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            expected = "expected every class of the train split"
            raise OnetokError(f"{shown_path(folder / missing[0])}: no such class folder{more}, {expected}")
        return names

    def _listed(self, folder: Path, names: list[str]) -> Iterator[tuple[int, ImageFile]]:
        for name in names:
            for file in image_files(folder / name, self.bad.add):
                yield self.labels[name], file

    def _usable(self, listed: list[tuple[int, ImageFile]]) -> Iterator[tuple[int, int]]:
        """Yield label and number of each image that can be decoded and whose caption and record are valid."""
        for label, file in track(listed, f"checking {shown_path(self.root)}", "images"):
            try:
                _, checksum = self._read(label, file)
            except BadSampleError as error:
                self.bad.add(error)
                continue
            yield label, len(self.files)
            self.files.append(file)
            self.checksums.append(checksum)

    def _check(
        self, folders: list[Path], classes: list[list[str]], found: Sequence[Sequence[tuple[int, Any]]]
    ) -> None:
        """Raise OnetokError for more bad samples than params allow, and for a class folder without an image."""
        self.check_bad_share(sum(map(len, found)))
        for folder, names, samples in zip(folders, classes, found, strict=True):
            filled = {label for label, _ in samples}
            for name in names:
                if self.labels[name] not in filled:
                    expected = "expected images in it, or no such folder"
                    raise OnetokError(f"{shown_path(folder / name)}: no image that can be read, {expected}")

    def check_bad_share(self, good: int) -> None:
        """Raise OnetokError if there are more bad samples than params allow with this number of good ones."""
        if not self.bad.count:
            return
        if self.source.on_bad_sample == "fail":
            raise OnetokError(f"{self.bad.named()}; expected none where on_bad_sample is fail")
        share, most = self.bad.count / (self.bad.count + good), self.source.max_bad_share
        assert most is not None
        if share > most:
            raise OnetokError(
                f"{self.bad.named()}; that is {share:.2%} of all, but max_bad_share is {most:g}"
            )

    def read(self, label: int, item: int) -> Sample | None:
        """Return the sample of an item, or None if its files have changed or vanished and bad samples are skipped.

        Raises BadSampleError in the latter case if params do not skip bad samples.
        """
        file = self.files[item]
        try:
            sample, checksum = self._read(label, file)
            if checksum != self.checksums[item]:
                message = f"{shown_path(file.path)}: changed while the dataset was converted, expected files at rest"
                raise BadSampleError(file.path, VANISHED, message)
        except BadSampleError as error:
            self.bad.add(error)
            if self.source.on_bad_sample == "fail":
                raise
            return None
        return sample

    def _read(self, label: int, file: ImageFile) -> tuple[Sample, int]:
        """Return a sample and the CRC-32 of its files. Raises BadSampleError where one of them is not valid."""
        path, caption, record = file.path, _caption(self.source.caption, self.names[label]), self.record
        content = read_file(path, IMAGE_BYTES)
        try:
            check_shape(decode(content, shown_path(path)), shown_path(path))
        except OnetokError as error:
            raise BadSampleError(path, NO_IMAGE, str(error)) from None
        checksum = zlib.crc32(content)
        caption_path, record_path = path.with_suffix(".txt"), path.with_suffix(".json")
        if os.path.lexists(caption_path):
            text = read_file(caption_path, TEXT_BYTES)
            checksum = zlib.crc32(text, checksum)
            try:
                caption = text.decode("utf-8-sig")  # text mode would translate line ends
            except UnicodeDecodeError as error:
                message = f"{shown_path(caption_path)}: not UTF-8 text ({error.reason})"
                raise BadSampleError(caption_path, NO_CAPTION, message) from None
        if os.path.lexists(record_path):
            text = read_file(record_path, TEXT_BYTES)
            checksum = zlib.crc32(text, checksum)
            try:
                record = read_record(text, shown_path(record_path))
            except OnetokError as error:
                raise BadSampleError(record_path, NO_RECORD, str(error)) from None
        key, suffix = _key(file, self.root), path.suffix.lower().lstrip(".")
        return Sample(key, content, suffix, label, caption, record), checksum


def _key(file: ImageFile, root: Path) -> str:
    """Return the key of an image: its path in the source without the suffix, different for every path.

    Characters that webdataset does not allow in a key are percent-encoded, as in URLs. Images whose names differ in the
    suffix alone keep it.
    """
    path = file.path.relative_to(root)
    key = re.sub(r"[.%\x00-\x1f\x7f]", lambda found: f"%{ord(found[0]):02X}", path.with_suffix("").as_posix())
    # A suffix after % is not mistaken for an encoded character: none of them is two hexadecimal digits.
    return f"{key}%{path.suffix.lstrip('.')}" if file.shares_name else key


def _caption(template: str | None, name: str) -> str | None:
    return template.replace("{class}", name) if template is not None else None


Pool = DigitsPool | ScenesPool | FolderPool


class Split:
    """The samples of one split in a fixed order, each read when it is iterated over; bad ones are left out."""

    def __init__(self, pool: Pool, items: list[tuple[int, int]]) -> None:
        self.pool, self.items = pool, items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        for label, item in self.items:
            sample = self.pool.read(label, item)
            if sample is not None:
                yield sample


def read_splits(dataset: Dataset) -> dict[str, Split]:
    """Return the splits "train" and "val" of a dataset, without those that have no samples.

    Raises OnetokError where a folder is missing or empty, for more bad samples than params allow, or where the number
    of classes is not that of params.
    """
    pool = open_pool(dataset)
    if len(pool.classes) != dataset.classes:
        raise OnetokError(f"{pool.describe_classes()}, expected {dataset.classes} (classes of the dataset)")
    found = zip(("train", "val"), _list(pool, dataset.split), strict=True)
    return {name: Split(pool, items) for name, items in found if items}


def report(splits: dict[str, Split], labels: dict[str, NDArray[np.int32]]) -> dict[str, Any]:
    """Return the report of a conversion: images, classes and skipped samples, given the written labels of each split.

    Raises OnetokError where files changed during the conversion and there are now more bad samples than params allow.
    """
    pool = next(iter(splits.values())).pool
    if isinstance(pool, FolderPool):
        pool.check_bad_share(sum(map(len, labels.values())))
    counts = {name: np.bincount(found, minlength=len(pool.classes)) for name, found in labels.items()}
    return {
        "images": {name: len(found) for name, found in labels.items()},
        "classes": [
            {
                "label": label,
                "name": shown_path(name),
                **{split: int(count[label]) for split, count in counts.items()},
            }
            for label, name in enumerate(pool.classes)
        ],
        "skipped": pool.bad.report() if isinstance(pool, FolderPool) else [],
    }


def open_pool(dataset: Dataset) -> Pool:
    """Return the pool of a dataset's source. Raises OnetokError where its folders are missing or unusable."""
    match dataset.source:
        case DigitsSource():
            return DigitsPool(dataset.source)
        case ScenesSource():
            return ScenesPool(dataset.source)
        case _:
            split = dataset.split
            return FolderPool(dataset.source, split.train if isinstance(split, SplitFolders) else None)


_SPLITS = {DigitsPool: "hold-out", ScenesPool: "scenes", FolderPool: "hold-out, folders or evaluation"}


def _list(
    pool: Pool, split: HoldOut | SplitFolders | EvaluationOnly | SplitScenes
) -> tuple[list[tuple[int, int]], ...]:
    """Return the items of the train and the val split. Raises OnetokError for a split that the source cannot have."""
    match pool, split:
        case ScenesPool(), SplitScenes():
            val = pool.items("val", split.val) + pool.items("held-out", split.held_out)
            return pool.items("train", split.train), val
        case FolderPool(), SplitFolders():
            return pool.items(split.train, split.val)
        case FolderPool(), EvaluationOnly():
            return [], *pool.items(None)
        case FolderPool(), HoldOut():
            return _hold_out(pool, pool.items(None)[0], split)
        case DigitsPool(), HoldOut():
            return _hold_out(pool, pool.items(), split)
    raise OnetokError(
        f"dataset: found split.kind {split.kind}, expected {_SPLITS[type(pool)]} for its source"
    )


def _hold_out(
    pool: DigitsPool | FolderPool, items: list[tuple[int, int]], split: HoldOut
) -> tuple[list[tuple[int, int]], ...]:
    """Return train and val items: of every class, `per_class` random ones are val; both keep the order of the pool.

    Raises OnetokError for a class with too few images.
    """
    labels = np.array([label for label, _ in items])
    held = np.zeros(len(items), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= split.per_class:
            found = (
                f"{pool.describe_class(int(label))}: {len(members)} images, cannot hold out {split.per_class}"
            )
            raise OnetokError(f"{found} (split.per_class of the dataset)")
        rng = np.random.default_rng([split.seed, int(label)])
        held[rng.choice(members, split.per_class, replace=False)] = True
    return [i for i, h in zip(items, held, strict=True) if not h], [
        i for i, h in zip(items, held, strict=True) if h
    ]
