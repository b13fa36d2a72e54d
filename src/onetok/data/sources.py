"""Sources: where images come from before they are shards."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from onetok.data import scenes
from onetok.data.class_names import imagenet_names
from onetok.data.records import Record, read_record
from onetok.errors import OnetokError, one_line
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

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

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
    """Class sub-folders of image files; a caption beside an image wins over the template."""

    def __init__(self, source: ImageFolderSource, folder: str | None) -> None:
        self.root = Path(source.path)
        if not self.root.is_dir():
            raise OnetokError(f"{self.root}: no such folder (source.path of the dataset)")
        self.files: list[Path] = []
        self.classes = self._class_names(folder)
        self.labels = {name: label for label, name in enumerate(self.classes)}
        self.source, self.names = source, self._names(source)

    def _names(self, source: ImageFolderSource) -> Sequence[str]:
        """Return what the classes are called in captions; ImageNet's in the order of the sorted folders."""
        if source.caption is None or source.class_names == "folders":
            return self.classes
        return imagenet_names(self.classes, source.class_names, self.root)

    def _folder(self, folder: str | None) -> Path:
        path = self.root / folder if folder else self.root
        if not path.is_dir():
            raise OnetokError(f"{path}: no such folder (split of the dataset)")
        return path

    def _class_names(self, folder: str | None) -> list[str]:
        path = self._folder(folder)
        names = sorted(child.name for child in path.iterdir() if child.is_dir())
        if not names:
            raise OnetokError(f"{path}: no class sub-folders, expected one for each class")
        return names

    def items(self, folder: str | None) -> list[tuple[int, int]]:
        found = []
        for name in self._class_names(folder):
            if name not in self.labels:
                raise OnetokError(f"{self._folder(folder) / name}: this class is not in the train split")
            paths = sorted((self._folder(folder) / name).rglob("*"))
            for path in paths:
                if path.suffix.lower() in SUFFIXES:
                    _check_name(path)
                    found.append((self.labels[name], len(self.files)))
                    self.files.append(path)
        if not found:
            raise OnetokError(
                f"{self._folder(folder)}: no images, expected files named {', '.join(SUFFIXES)}"
            )
        return found

    def read(self, label: int, item: int) -> Sample:
        path = self.files[item]
        content = path.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()  # all of it: verify() lets a truncated file pass
        except Exception as error:  # Pillow's readers raise whatever a damaged file makes them
            raise OnetokError(f"{path}: not a readable image: {one_line(error)}") from None
        beside = path.with_suffix(".txt")
        caption = _caption(self.source.caption, self.names[label])
        if beside.exists():
            try:
                caption = beside.read_bytes().decode("utf-8")  # as text, line ends would change
            except UnicodeDecodeError as error:
                raise OnetokError(f"{beside}: not UTF-8 text ({error.reason})") from None
        said = path.with_suffix(".json")
        record = read_record(said.read_bytes(), said) if said.exists() else None
        key = path.relative_to(self.root).with_suffix("").as_posix().replace("/", "-").replace(".", "_")
        return Sample(key, content, path.suffix.lower().lstrip("."), label, caption, record)


def _check_name(path: Path) -> None:
    """Raise OnetokError for a name that shards cannot hold, as an archive of another encoding leaves it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise OnetokError(
            f"{shown(path)}: its name is not UTF-8, expected a file or folder renamed"
        ) from None


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
        return (self.pool.read(label, item) for label, item in self.items)


def read_splits(dataset: Dataset) -> dict[str, Split]:
    """Return the samples of "train", if there is any, and "val", each in a fixed order.

    Raises OnetokError where a folder is missing or empty, a file is no image, or the number of classes differs.
    """
    pool = open_pool(dataset)
    if len(pool.classes) != dataset.classes:
        raise OnetokError(f"dataset: found {len(pool.classes)} classes, expected {dataset.classes} (params)")
    found = zip(("train", "val"), _list(pool, dataset.split), strict=True)
    return {name: Split(pool, items) for name, items in found if items}


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
            return pool.items(split.train), pool.items(split.val)
        case FolderPool(), EvaluationOnly():
            return [], pool.items(None)
        case FolderPool(), HoldOut():
            return _hold_out(pool.items(None), split)
        case DigitsPool(), HoldOut():
            return _hold_out(pool.items(), split)
    raise OnetokError(
        f"dataset: found split.kind {split.kind}, expected {_SPLITS[type(pool)]} for its source"
    )


def _hold_out(items: list[tuple[int, int]], split: HoldOut) -> tuple[list[tuple[int, int]], ...]:
    """Draw `per_class` validation items of every class; both parts keep the order of the pool."""
    labels = np.array([label for label, _ in items])
    held = np.zeros(len(items), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= split.per_class:
            raise OnetokError(
                f"dataset: class {label} has {len(members)} images, cannot hold out {split.per_class}"
            )
        rng = np.random.default_rng([split.seed, int(label)])
        held[rng.choice(members, split.per_class, replace=False)] = True
    return [i for i, h in zip(items, held, strict=True) if not h], [
        i for i, h in zip(items, held, strict=True) if h
    ]
