"""What follows from params alone: shapes of text states, and numbers of images and prompts."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from onetok.errors import OnetokError
from onetok.study.schema.datasets import Dataset, DigitsSource, HoldOut, SplitScenes, Task
from onetok.study.schema.encoders import CLIPEncoder, OpenCLIPEncoder
from onetok.study.schema.shapes import TextShape
from onetok.study.schema.study import Study


@cache
def open_clip_configs() -> dict[str, Path]:
    """Return open_clip's architectures, name to file, without open_clip itself, which takes seconds to import."""
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    return {path.stem: path for path in (Path(package.origin).parent / "model_configs").glob("*.json")}


def text_shape(study: Study, encoder: str) -> TextShape:
    """Return the shape of a text encoder's states.

    Raises OnetokError for an architecture of open_clip whose text tower is none of open_clip's own.
    """
    entry = study.encoders[encoder]
    if isinstance(entry, CLIPEncoder):
        return TextShape(entry.model.context_length, entry.model.text_width, entry.model.embedding)
    assert isinstance(entry, OpenCLIPEncoder)
    released = json.loads(open_clip_configs()[entry.architecture].read_text(encoding="utf-8"))
    tower = released["text_cfg"]
    if not {"context_length", "width"} <= tower.keys():
        raise OnetokError(
            f"{encoder}: {entry.architecture!r} is not the original CLIP's pair of transformers"
        )
    return TextShape(tower["context_length"], tower["width"], released["embed_dim"])


DIGITS = 1797  # images that scikit-learn ships


def images_of(dataset: Dataset, split: str) -> int | None:
    """Return how many images a split of a dataset has; None where only the files can say."""
    if isinstance(dataset.source, DigitsSource) and isinstance(dataset.split, HoldOut):
        held = dataset.split.per_class * dataset.classes
        return held if split == "val" else DIGITS - held
    if isinstance(dataset.split, SplitScenes):
        return dataset.split.val + dataset.split.held_out if split == "val" else dataset.split.train
    return None


def prompts_of(dataset: Dataset) -> dict[str, int] | None:
    """Return how many prompts of each task, and held-out ones, the validation split of scenes has; None for others."""
    if not isinstance(dataset.split, SplitScenes):
        return None
    tasks = get_args(Task)  # which take turns
    turns = {task: len(range(number, dataset.split.val, len(tasks))) for number, task in enumerate(tasks)}
    return {**turns, "held_out": dataset.split.held_out}
