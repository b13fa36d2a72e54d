"""GenEval (arXiv 2310.11513): does an object detector find in an image what its prompt asks for?

Each image is correct or not; the score of each of six tasks is its share of correct images, the overall score the mean
of the tasks. Prompts marked `held_out`, combinations that training never showed, are scored separately.

Legend: B, M images · S side of an image in pixels · q = S/2 side of a cell · T templates · C colours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.images import to_float
from onetok.data.scenes import coverage, full_color
from onetok.errors import OnetokError
from onetok.study.scene_requests import SHAPES, TASKS, UNREADABLE
from onetok.study.schema.datasets import Relation, ScenesSource
from onetok.study.schema.records import Prompt

POSITION_MARGIN = 0.1  # a distance counts as far as it exceeds this share of both boxes' summed sizes
POSITION_SHARE = 0.5  # a direction holds if its component is more than this share of the distance


class Detection(NamedTuple):
    """A detected object."""

    name: str  # class
    color: str | None
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Detector(Protocol):
    """An object detector: images (B, 3, S, S) uint8 → the objects in each, by falling confidence."""

    def __call__(self, images: Tensor) -> list[list[Detection]]: ...


class Scores(NamedTuple):
    """GenEval's scores of a set of prompts."""

    tasks: dict[str, float]  # share of correct images of each task, in [0, 1]
    overall: float  # mean over the tasks


class GenEval(NamedTuple):
    """The result of an evaluation."""

    usual: Scores  # of prompts that are not held out
    held_out: Scores | None  # None if no prompt is held out
    right: NDArray[np.bool_]  # (M,), whether each image is correct


def evaluate(prompts: Sequence[Prompt], seen: Sequence[list[Detection]]) -> GenEval:
    """Return the scores of M images, given the prompt of each and the objects detected in it.

    Raises OnetokError if the numbers of images and prompts differ, and if a task has no prompt that is not held out.
    """
    if len(seen) != len(prompts):
        raise OnetokError(
            f"geneval: found {len(seen)} pictures, expected one for each of {len(prompts)} prompts"
        )
    right = np.array([is_right(p, objects) for p, objects in zip(prompts, seen, strict=True)], dtype=bool)
    held_out = np.array([prompt.held_out for prompt in prompts], dtype=bool)
    tags = np.array([prompt.tag for prompt in prompts])
    missing = [task for task in TASKS if task not in tags[~held_out]]
    if missing:
        raise OnetokError(
            f"geneval: no prompt of task {', '.join(missing)}, expected all of {', '.join(TASKS)}"
        )
    apart = _scores(tags[held_out], right[held_out]) if held_out.any() else None
    return GenEval(_scores(tags[~held_out], right[~held_out]), apart, right)


def _scores(tags: NDArray[np.str_], right: NDArray[np.bool_]) -> Scores:
    tasks: dict[str, float] = {task: float(right[tags == task].mean()) for task in TASKS if task in tags}
    return Scores(tasks, float(np.mean(list(tasks.values()))))


def is_right(prompt: Prompt, seen: Sequence[Detection]) -> bool:
    """Return whether the detected objects match a prompt.

    All objects that it includes must be there, in number, colour and relative position, and none that it excludes.
    """
    for excluded in prompt.exclude:
        if sum(thing.name == excluded.name for thing in seen) >= excluded.count:
            return False
    groups: list[list[Detection]] = []
    for wanted in prompt.include:
        group = [thing for thing in seen if thing.name == wanted.name][: wanted.count]
        if len(group) < wanted.count:
            return False
        if wanted.color is not None and any(thing.color != wanted.color for thing in group):
            return False
        if wanted.position is not None:
            relation, target = wanted.position
            pairs = itertools.product(group, groups[target])
            if any(relation not in relations(a, b) for a, b in pairs):
                return False
        groups.append(group)
    return True


def relations(a: Detection, b: Detection) -> set[Relation]:
    """Return the relations of object `a` to object `b`, by the centres of their boxes; near objects have none."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = _middle_and_size(a), _middle_and_size(b)
    offset = np.array([ax - bx, ay - by])
    margin = POSITION_MARGIN * np.array([aw + bw, ah + bh])
    length = float(np.linalg.norm(offset))
    if length == 0:
        return set()
    right, down = np.sign(offset) * np.maximum(np.abs(offset) - margin, 0) / length
    found: dict[Relation, bool] = {
        "left of": right < -POSITION_SHARE,
        "right of": right > POSITION_SHARE,
        "above": down < -POSITION_SHARE,
        "below": down > POSITION_SHARE,
    }
    return {relation for relation, holds in found.items() if holds}


def _middle_and_size(thing: Detection) -> tuple[float, float, float, float]:
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


# ---------------------------------------------------------------------------------------------- scenes


class ScenesExact:
    """The detector of scenes (data/scenes.py), by template matching: each cell holds one object or none.

    The detected object is the one of least squared error over all shapes, colours, sides, offsets and vividnesses that
    the source can draw, and slightly beyond. Thereby a blurred image gets the object that it resembles most. If the
    squared error of the best object exceeds the energy of the faintest possible shape, the cell is unreadable.
    """

    SLACK = 2  # pixels by which templates' offsets exceed the source's jitter; sides exceed its sides by one

    def __init__(self, source: ScenesSource) -> None:
        self.source, self.cell = source, source.size // 2
        reach = range(-source.jitter - self.SLACK, source.jitter + self.SLACK + 1)
        least, most = source.sides
        sides = range(max(least - 1, 1), most + 2)
        self.templates = list(itertools.product(SHAPES, sides, reach, reach))
        masks = np.stack([coverage(shape, self.cell, *rest) for shape, *rest in self.templates])  # (T, q, q)
        colors = np.stack([full_color(color)[:, 0, 0] for color in source.colors])  # (C, 3)
        self.masks = torch.from_numpy(masks).float().flatten(1)  # (T, q²)
        self.colors = torch.from_numpy(colors).float()  # (C, 3)
        self.norms = self.masks.square().sum(1) * self.colors.square().sum(1)[:, None]  # (C, T)
        # Which templates the source can draw, (T,), and the energy of the faintest shape among them.
        real = torch.tensor(
            [side >= least and max(-x, x, -y, y) <= source.jitter for _, side, x, y in self.templates]
        )
        self.limit = source.vividness[0] ** 2 * self.norms[:, real].min()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[list[Detection]]:
        """Return the objects in images (B, 3, S, S) uint8. Raises OnetokError for another shape or dtype."""
        side = self.source.size
        if images.shape[1:] != (3, side, side) or images.dtype != torch.uint8:
            found = f"{tuple(images.shape)} {images.dtype}"
            raise OnetokError(
                f"scenes-exact: found pictures {found}, expected (B, 3, {side}, {side}) torch.uint8"
            )
        pixels = to_float(images.cpu())  # (B, 3, S, S)
        cells = rearrange(pixels, "b k (y h) (x w) -> (b y x) k (h w)", y=2, x=2)  # (4B, 3, q²)
        projected = torch.einsum("nkp,tp->nkt", cells, self.masks)  # (4B, 3, T)
        products = torch.einsum("ck,nkt->nct", self.colors, projected)  # (4B, C, T)
        vividness = (products / self.norms).clamp(*self.source.vividness)  # (4B, C, T), the best of each
        # By how much the squared error of each template is less than that of an empty cell.
        gains = vividness * (2 * products - vividness * self.norms)  # (4B, C, T)
        gain, best = gains.flatten(1).max(dim=1)  # (4B,) each
        error = cells.square().sum(dim=(1, 2)) - gain.clamp(min=0)  # (4B,)
        detected = [
            self._detect(cell % 4, *row)
            for cell, row in enumerate(zip(gain.tolist(), best.tolist(), error.tolist(), strict=True))
        ]
        return [[thing for thing in detected[i : i + 4] if thing] for i in range(0, len(detected), 4)]

    def _detect(self, cell: int, gain: float, best: int, error: float) -> Detection | None:
        color, template = divmod(best, len(self.templates))
        shape, side, right, down = self.templates[template]
        y, x = (self.cell * (step + 0.5) for step in divmod(cell, 2))
        if error > self.limit:
            return Detection(UNREADABLE, None, (x, y, x, y))
        if gain <= 0:
            return None
        x, y, half = x + right, y + down, side / 2
        return Detection(shape, self.source.colors[color], (x - half, y - half, x + half, y + half))
