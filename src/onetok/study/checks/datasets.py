"""Checks of datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import get_args

from onetok.study.scene_requests import requests as scene_requests
from onetok.study.schema.datasets import (
    Dataset,
    DigitsSource,
    HoldOut,
    ImageFolderSource,
    SceneShape,
    ScenesSource,
    SplitFolders,
    SplitScenes,
)
from onetok.study.schema.study import Study

IMAGENET_CLASSES = 1000
DIGITS_CLASSES = 10
DIGITS_PER_CLASS = 174  # in the smallest class
SPLITS = {  # of each kind of source
    "digits": ("hold-out",),
    "imagefolder": ("hold-out", "folders", "evaluation"),
    "scenes": ("scenes",),
}

SCENE_SHAPES = get_args(SceneShape)


def check_dataset(study: Study, dataset: Dataset) -> Iterator[str]:
    source, split = dataset.source, dataset.split
    if split.kind not in SPLITS[source.kind]:
        expected = " or ".join(SPLITS[source.kind])
        yield f"split.kind: found {split.kind}, a source of kind {source.kind} needs {expected}"
    if isinstance(source, ScenesSource):
        yield from _scenes(source, dataset)
        return
    if source.caption is not None and "{class}" not in source.caption:
        yield f"source.caption: {source.caption!r} lacks {{class}}; without captions, it is null"
    if isinstance(source, DigitsSource) and dataset.classes != DIGITS_CLASSES:
        yield f"classes {dataset.classes}, but there are {DIGITS_CLASSES} digits"
    if (
        isinstance(source, DigitsSource)
        and isinstance(split, HoldOut)
        and split.per_class >= DIGITS_PER_CLASS
    ):
        text = f"split.per_class {split.per_class} leaves nothing to train on"
        yield f"{text}: the smallest class of digits has {DIGITS_PER_CLASS} images"
    if isinstance(source, ImageFolderSource):
        skips = source.on_bad_sample == "skip"
        if skips and source.max_bad_share is None:
            yield "source.max_bad_share: missing, on_bad_sample skip needs the largest share that may be skipped"
        if not skips and source.max_bad_share is not None:
            yield f"source.max_bad_share: found {source.max_bad_share:g}, but on_bad_sample is fail"
        if isinstance(split, SplitFolders):
            yield from _folders(split)
    names = source.class_names if isinstance(source, ImageFolderSource) else "folders"
    if names != "folders" and dataset.classes != IMAGENET_CLASSES:
        yield f"source.class_names: {names} needs {IMAGENET_CLASSES} classes, found {dataset.classes}"


def _folders(split: SplitFolders) -> Iterator[str]:
    for key, folder in (("train", split.train), ("val", split.val)):
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts:
            yield f"split.{key}: found {folder}, expected a folder below source.path"
    if PurePosixPath(split.train) == PurePosixPath(split.val):
        yield f"split.val: found {split.val}, the folder of train: images of validation would be trained on"


def _scenes(source: ScenesSource, dataset: Dataset) -> Iterator[str]:
    classes = len(SCENE_SHAPES) * len(source.colors)
    if dataset.classes != classes:
        yield f"classes {dataset.classes}, expected {classes}: one for each shape in each of source.colors"
    if len(set(source.colors)) < len(source.colors):
        yield f"source.colors: {', '.join(source.colors)} names a colour twice"
    (least, most), cell = source.sides, source.size / 2
    if source.size % 2 or least > most or most + 2 * source.jitter > cell:
        yield f"source: sides {least} to {most} and jitter {source.jitter} do not fit a cell of {cell:g} pixels"
    if not 0 < source.vividness[0] <= source.vividness[1]:
        yield f"source.vividness: found {list(source.vividness)}, expected two rising numbers above 0"
    for color, shape in source.held_out_colors:
        if color not in source.colors:
            yield f"source.held_out_colors: {color} {shape} is of no colour in source.colors"
    if source.evaluation_share > 0.5:
        share = f"source.evaluation_share: found {source.evaluation_share:g}"
        yield f"{share}, expected at most 0.5: of a request and its mirror one is for training"
    undrawn = [
        s for s in SCENE_SHAPES if all((color, s) in source.held_out_colors for color in source.colors)
    ]
    for shape in undrawn:
        yield f"source.held_out_colors: holds out {shape} in every colour"
    if not undrawn:
        yield from _requests(source, dataset)


def _requests(source: ScenesSource, dataset: Dataset) -> Iterator[str]:
    """Check that there is something to ask for in every split."""
    every = scene_requests(source)
    for split, tasks in (("training", every.train), ("evaluation", every.val)):
        for task in (task for task, left in tasks.items() if not left):
            named = "evaluation_share, held_out_colors, held_out_relations"
            yield f"source: leaves nothing of {task} to ask for in {split} ({named})"
    if isinstance(dataset.split, SplitScenes) and dataset.split.held_out and not every.held_out:
        yield f"split.held_out {dataset.split.held_out}, but source holds out nothing"
