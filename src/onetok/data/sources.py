"""Sources: where images come from before they are shards."""

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
from onetok.data.records import Record, read_record
from onetok.errors import OnetokError
from onetok.params import (
    Dataset,
    DigitsSource,
    EvaluationOnly,
    HoldOut,
    ImageFolderSource,
    ScenesSource,
    SplitFolders,
    SplitScenes,
)
from onetok.pictures import shown
from onetok.progress import track

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Sample(NamedTuple):
    key: str  # unique within its split, without dots
    image: bytes  # an encoded image file
    suffix: str  # "png", "jpg", …
    label: int
    caption: str | None
    record: Record | None = None


class DigitsPool:
    """The scanned digits of scikit-learn, 8x8 grey levels 0..16, as square RGB PNGs."""

    def __init__(self, source: DigitsSource) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.source, self.images, self.labels = source, digits.images, digits.target
        self.classes = [str(name) for name in digits.target_names]

    def found(self) -> str:
        """Return what classes there are, for messages."""
        return f"digits: {len(self.classes)} classes"

    def place(self, label: int) -> str:
        """Return what to call a class in messages."""
        return f"digits: class {self.classes[label]}"

    def items(self) -> list[tuple[int, int]]:
        return [(int(label), index) for index, label in enumerate(self.labels)]

    def read(self, label: int, item: int) -> Sample:
        grey = Image.fromarray(np.rint(self.images[item] * (255 / 16)).astype(np.uint8))
        size = (self.source.size, self.source.size)
        image = grey.resize(size, RESAMPLING[self.source.filter]).convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        caption = _caption(self.source.caption, DIGITS[label])
        return Sample(f"digit-{item:04d}", buffer.getvalue(), "png", label, caption)


class ScenesPool:
    """Scenes of every split, one after the other, as PNGs."""

    def __init__(self, source: ScenesSource) -> None:
        self.source, self.drawn = source, list[tuple[scenes.Split, int]]()
        self.classes = [f"{color} {shape}" for shape in scenes.SHAPES for color in source.colors]

    def found(self) -> str:
        """Return what classes there are, for messages."""
        return f"scenes: {len(self.classes)} classes, one for each shape in each colour"

    def items(self, split: scenes.Split, count: int) -> list[tuple[int, int]]:
        found = []
        for index in range(count):
            scene = scenes.scene(self.source, split, index)
            found.append((scene.label(self.source.colors), len(self.drawn)))
            self.drawn.append((split, index))
        return found

    def read(self, label: int, item: int) -> Sample:
        split, index = self.drawn[item]
        scene = scenes.scene(self.source, split, index)
        buffer = io.BytesIO()
        Image.fromarray(scenes.draw(scene, self.source).transpose(1, 2, 0)).save(buffer, format="PNG")
        key = f"{split}-{index:06d}"
        return Sample(key, buffer.getvalue(), "png", label, scene.request.caption, scene.record)


class FolderPool:
    """Class sub-folders of image files; a caption beside an image wins over the template.

    Every image is decoded before the first one is written, so that the bad ones are known when the split is drawn.
    """

    def __init__(self, source: ImageFolderSource, folder: str | None) -> None:
        self.root, self.source = Path(source.path), source
        if not self.root.is_dir():
            raise OnetokError(f"{shown(self.root)}: no such folder (source.path of the dataset)")
        self.bad = BadSamples(self.root)
        self.folder = self._folder(folder)
        self.classes = class_folders(self.folder, self.bad.add)
        self.labels = {name: label for label, name in enumerate(self.classes)}
        self.names = self._names(source)
        self.files: list[ImageFile] = []  # of all splits
        self.checksums = array("I")  # of each with its caption and record

    def _names(self, source: ImageFolderSource) -> Sequence[str]:
        """Return what the classes are called in captions; ImageNet's in the order of the labels."""
        if source.caption is None or source.class_names == "folders":
            return self.classes
        return imagenet_names(self.classes, source.class_names, self.root)

    def _folder(self, folder: str | None) -> Path:
        path = self.root / folder if folder else self.root
        if not path.is_dir():
            raise OnetokError(f"{shown(path)}: no such folder (split of the dataset)")
        return path

    def found(self) -> str:
        """Return what classes there are, for messages."""
        names = ", ".join(shown(name) for name in self.classes[:5])
        listed = f"{shown(self.folder)}: {len(self.classes)} class sub-folders ({names}"
        wrong = f", and bad ones: {self.bad.named()}" if self.bad.count else ""
        return f"{listed}{', …' if len(self.classes) > 5 else ''}{wrong})"

    def place(self, label: int) -> str:
        """Return what to call a class in messages."""
        return shown(self.folder / self.classes[label])

    def items(self, *folders: str | None) -> tuple[list[tuple[int, int]], ...]:
        """Return label and number of the samples of each folder, without the bad ones.

        Raises OnetokError for more bad samples than params allow, for a class folder without an image, and for folders
        that are one and the same: images of validation would be trained on.
        """
        paths = [self._folder(folder) for folder in folders]
        for one, other in itertools.combinations(paths, 2):
            if one.samefile(other):
                raise OnetokError(
                    f"{shown(other)}: is the same folder as {shown(one)}, expected other images"
                )
        classes = [self._classes_of(path) for path in paths]
        listed = [list(self._listed(path, names)) for path, names in zip(paths, classes, strict=True)]
        self._check(paths, classes, listed)  # before hours of reading
        usable = [list(self._usable(files)) for files in listed]
        self._check(paths, classes, usable)
        return tuple(usable)

    def _classes_of(self, folder: Path) -> list[str]:
        if folder == self.folder:
            return self.classes
        names = class_folders(folder, self.bad.add)
        for name in names:
            if name not in self.labels:
                raise OnetokError(f"{shown(folder / name)}: this class is not in the train split")
        missing = [name for name in self.classes if name not in set(names)]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            expected = "expected every class of the train split"
            raise OnetokError(f"{shown(folder / missing[0])}: no such class folder{more}, {expected}")
        return names

    def _listed(self, folder: Path, names: list[str]) -> Iterator[tuple[int, ImageFile]]:
        for name in names:
            for file in image_files(folder / name, self.bad.add):
                yield self.labels[name], file

    def _usable(self, listed: list[tuple[int, ImageFile]]) -> Iterator[tuple[int, int]]:
        """Yield label and number of each image that can be read, with what belongs to it."""
        for label, file in track(listed, f"checking {shown(self.root)}", "images"):
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
        self.settle(sum(map(len, found)))
        for folder, names, samples in zip(folders, classes, found, strict=True):
            filled = {label for label, _ in samples}
            for name in names:
                if self.labels[name] not in filled:
                    expected = "expected images in it, or no such folder"
                    raise OnetokError(f"{shown(folder / name)}: no image that can be read, {expected}")

    def settle(self, good: int) -> None:
        """Raise OnetokError for more bad samples, beside `good` ones, than params allow."""
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
        """Return a sample, or None where it has become a bad one that is skipped."""
        file = self.files[item]
        try:
            sample, checksum = self._read(label, file)
            if checksum != self.checksums[item]:
                message = (
                    f"{shown(file.path)}: changed while the dataset was converted, expected files at rest"
                )
                raise BadSampleError(file.path, VANISHED, message)
        except BadSampleError as error:
            self.bad.add(error)
            if self.source.on_bad_sample == "fail":
                raise
            return None
        return sample

    def _read(self, label: int, file: ImageFile) -> tuple[Sample, int]:
        """Return a sample and a checksum of its files. Raises BadSampleError."""
        path, caption, record = file.path, _caption(self.source.caption, self.names[label]), None
        content = read_file(path, IMAGE_BYTES)
        try:
            check_shape(decode(content, shown(path)), shown(path))
        except OnetokError as error:
            raise BadSampleError(path, NO_IMAGE, str(error)) from None
        checksum = zlib.crc32(content)
        beside, said = path.with_suffix(".txt"), path.with_suffix(".json")
        if os.path.lexists(beside):
            text = read_file(beside, TEXT_BYTES)
            checksum = zlib.crc32(text, checksum)
            try:
                caption = text.decode("utf-8-sig")  # from bytes: read as text, line ends would change
            except UnicodeDecodeError as error:
                message = f"{shown(beside)}: not UTF-8 text ({error.reason})"
                raise BadSampleError(beside, NO_CAPTION, message) from None
        if os.path.lexists(said):
            text = read_file(said, TEXT_BYTES)
            checksum = zlib.crc32(text, checksum)
            try:
                record = read_record(text, shown(said))
            except OnetokError as error:
                raise BadSampleError(said, NO_RECORD, str(error)) from None
        key, suffix = _key(file, self.root), path.suffix.lower().lstrip(".")
        return Sample(key, content, suffix, label, caption, record), checksum


def _key(file: ImageFile, root: Path) -> str:
    """Return the key of an image: its path without the suffix, another for every path.

    What webdataset does not take in a key is spelled %2E, as in URLs. Images that differ in their suffix alone keep it.
    """
    path = file.path.relative_to(root)
    key = re.sub(r"[.%\x00-\x1f\x7f]", lambda found: f"%{ord(found[0]):02X}", path.with_suffix("").as_posix())
    return f"{key}%{path.suffix.lstrip('.')}" if file.shares_name else key  # no suffix is two hex digits


def _caption(template: str | None, name: str) -> str | None:
    return template.replace("{class}", name) if template is not None else None


Pool = DigitsPool | ScenesPool | FolderPool


class Split:
    """The samples of one split: a fixed order, each read when it is asked for."""

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
    """Return the samples of "train", if there is any, and "val", each in a fixed order.

    Raises OnetokError where a folder is missing or empty, for more bad samples than params allow, or where the number
    of classes differs.
    """
    pool = open_pool(dataset)
    if len(pool.classes) != dataset.classes:
        raise OnetokError(f"{pool.found()}, expected {dataset.classes} (classes of the dataset)")
    found = zip(("train", "val"), _list(pool, dataset.split), strict=True)
    return {name: Split(pool, items) for name, items in found if items}


def report(splits: dict[str, Split], labels: dict[str, NDArray[np.int32]]) -> dict[str, Any]:
    """Return what became of a source, given the labels of what was written of each split.

    Raises OnetokError where more samples turned bad meanwhile than params allow.
    """
    pool = next(iter(splits.values())).pool
    if isinstance(pool, FolderPool):
        pool.settle(sum(map(len, labels.values())))
    counts = {name: np.bincount(found, minlength=len(pool.classes)) for name, found in labels.items()}
    return {
        "images": {name: len(found) for name, found in labels.items()},
        "classes": [
            {
                "label": label,
                "name": shown(name),
                **{split: int(count[label]) for split, count in counts.items()},
            }
            for label, name in enumerate(pool.classes)
        ],
        "skipped": pool.bad.report() if isinstance(pool, FolderPool) else [],
    }


def open_pool(dataset: Dataset) -> Pool:
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
    """Return the items of both splits."""
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
    """Draw `per_class` validation items of every class; both parts keep the order of the pool."""
    labels = np.array([label for label, _ in items])
    held = np.zeros(len(items), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= split.per_class:
            found = f"{pool.place(int(label))}: {len(members)} images, cannot hold out {split.per_class}"
            raise OnetokError(f"{found} (split.per_class of the dataset)")
        rng = np.random.default_rng([split.seed, int(label)])
        held[rng.choice(members, split.per_class, replace=False)] = True
    return [i for i, h in zip(items, held, strict=True) if not h], [
        i for i, h in zip(items, held, strict=True) if h
    ]
