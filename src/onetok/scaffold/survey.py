"""What is in a folder of images, as the conversion of a dataset will find it: classes, counts, captions, sizes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onetok.data.folders import SUFFIXES, class_folders
from onetok.data.sources import FolderPool
from onetok.errors import OnetokError, shown_path
from onetok.study.schema.datasets import HoldOut, ImageFolderSource, SplitFolders

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation", "test")
FEWEST_TRAINED = 16  # training images
FEWEST_VALIDATED = 5  # validation images: FID needs a covariance, precision and recall three neighbours
ONLY_CLASS = "all"  # the name of the class of a folder without sub-folders


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in a folder of images."""

    path: Path  # absolute
    flat: bool  # whether images lie in the folder itself
    split: HoldOut | SplitFolders
    classes: tuple[str, ...]  # in the order of the labels
    train: int  # images of the train split
    val: int
    captions: bool  # whether every image has a caption beside it
    records: bool  # whether every image has a record beside it
    shorter_side: int  # median over the images of the length of the shorter side, pixels
    skipped: int  # bad samples that are left out
    max_bad_share: float | None  # of all samples; None: a bad sample is an error

    @property
    def images(self) -> int:
        return self.train + self.val


def survey(path: Path, max_bad_share: float | None = None) -> Survey:
    """Look at every image of a folder: decode it, and look for its caption and record.

    Raises OnetokError as the conversion does, for what is no sample, and for too few images to train and to score.
    """
    path = path.expanduser().absolute()
    if not path.is_dir():
        raise OnetokError(
            f"--images: {shown_path(path)}: no such folder, expected one with sub-folders of images"
        )
    if not _is_flat(path):
        return _survey(path, path, False, max_bad_share)
    with tempfile.TemporaryDirectory() as name:  # a class folder may be a link
        (Path(name) / ONLY_CLASS).symlink_to(path)
        return _survey(path, Path(name), True, max_bad_share)


def _is_flat(path: Path) -> bool:
    """Return whether a folder has images and no sub-folders."""
    seen = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return not any(e.is_dir() for e in seen) and any(e.suffix.lower() in SUFFIXES for e in seen)


def _survey(path: Path, root: Path, flat: bool, max_bad_share: float | None) -> Survey:
    source = ImageFolderSource(
        kind="imagefolder",
        path=str(root),
        caption=None,
        class_names="folders",
        on_bad_sample="fail" if max_bad_share is None else "skip",
        max_bad_share=max_bad_share,
    )
    folders = None if flat else _split_folders(root)
    pool = FolderPool(source, folders.train if folders is not None else None)
    split: HoldOut | SplitFolders
    if folders is not None:
        train, val = (len(items) for items in pool.items(folders.train, folders.val))
        split = folders
    else:
        counts = np.bincount([label for label, _ in pool.items(None)[0]], minlength=len(pool.classes))
        split = HoldOut(kind="hold-out", per_class=held_out(counts, pool), seed=0)
        val = split.per_class * len(pool.classes)
        train = int(counts.sum()) - val
    for found, least, what in ((train, FEWEST_TRAINED, "train on"), (val, FEWEST_VALIDATED, "validate with")):
        if found < least:
            raise OnetokError(f"{shown_path(path)}: {found} images to {what}, expected at least {least}")
    files = [file.path for file in pool.files]
    return Survey(
        path=path,
        flat=flat,
        split=split,
        classes=tuple(pool.classes),
        train=train,
        val=val,
        captions=all(file.with_suffix(".txt").exists() for file in files),
        records=all(file.with_suffix(".json").exists() for file in files),
        shorter_side=int(np.median([_shorter_side(file) for file in files])),
        skipped=pool.bad.count,
        max_bad_share=max_bad_share,
    )


def _split_folders(root: Path) -> SplitFolders | None:
    """Return the folders of the splits, if that is what the sub-folders are by their names."""
    names = class_folders(root, lambda error: None)
    train = [name for name in names if name.lower() in TRAIN]
    val = [name for name in names if name.lower() in VAL]
    if len(names) != 2 or len(train) != 1 or len(val) != 1:
        return None
    return SplitFolders(kind="folders", train=train[0], val=val[0])


def held_out(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]], pool: FolderPool) -> int:
    """Return how many images of each class validate: a tenth of the smallest class, about a thousand in all at most.

    Raises OnetokError for a class with too few images.
    """
    classes, smallest = len(counts), int(counts.argmin())
    least = -(-FEWEST_VALIDATED // classes)
    per_class = max(least, min(round(0.1 * int(counts.min())), max(1, 1000 // classes)))
    if counts.min() <= per_class:
        found = f"{pool.describe_class(smallest)}: {counts.min()} images"
        text = f"expected at least {per_class + 1}, of which {per_class} are kept for validation"
        raise OnetokError(f"{found}, {text}; add images, or remove the folder")
    return per_class


def _shorter_side(path: Path) -> int:
    with Image.open(path) as image:
        return min(image.size)


def missing_caption(path: Path) -> Path | None:
    """Return the first image below a folder that has no caption beside it."""
    for folder, _, names in sorted(os.walk(path, followlinks=True)):
        for name in sorted(names):
            image = Path(folder) / name
            if image.suffix.lower() in SUFFIXES and not image.with_suffix(".txt").exists():
                return image
    return None
