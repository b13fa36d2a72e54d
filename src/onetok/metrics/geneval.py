"""GenEval (arXiv 2310.11513): does a picture show what its caption asks for, by a detector of objects.

prompts → pictures → detector → right or wrong for each picture → the share that is right in each of six tasks, and
their mean. Prompts marked `held_out`, of a kind that was never trained on, are scored apart.

Legend: M pictures · S pixels of their side · q = S/2 of a cell's · T templates · C colours.
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
from onetok.data.records import Prompt
from onetok.data.scenes import SHAPES, TASKS, UNREADABLE, coverage, full_color
from onetok.errors import OnetokError
from onetok.params import Relation, ScenesSource

POSITION_MARGIN = 0.1  # of both boxes' sizes: what an offset must exceed to count
POSITION_SHARE = 0.5  # of the offset's length: what must lie along a direction


class Seen(NamedTuple):
    """An object that a detector sees."""

    name: str  # class
    color: str | None
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels


class Detector(Protocol):
    """Pictures (B, 3, S, S) uint8 → what is seen in each, the surest first."""

    def __call__(self, images: Tensor) -> list[list[Seen]]: ...


class Scores(NamedTuple):
    tasks: dict[str, float]  # share of pictures that are right
    overall: float  # mean of the tasks


class GenEval(NamedTuple):
    usual: Scores
    held_out: Scores | None  # None where no prompt is held out
    right: NDArray[np.bool_]  # (M,)


def evaluate(prompts: Sequence[Prompt], seen: Sequence[list[Seen]]) -> GenEval:
    """Score what is seen in one picture for each prompt, in order.

    Raises OnetokError where pictures and prompts differ in number, or one of the six tasks has no usual prompt.
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


def is_right(prompt: Prompt, seen: Sequence[Seen]) -> bool:
    """Say whether all that a prompt includes is seen, in colour and place, and nothing that it excludes."""
    for excluded in prompt.exclude:
        if sum(thing.name == excluded.name for thing in seen) >= excluded.count:
            return False
    groups: list[list[Seen]] = []
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


def relations(a: Seen, b: Seen) -> set[Relation]:
    """Return where `a` lies seen from `b`, by the middles of their boxes; near objects have no relation."""
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


def _middle_and_size(thing: Seen) -> tuple[float, float, float, float]:
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


# ---------------------------------------------------------------------------------------------- scenes


class ScenesExact:
    """Reads scenes from pixels: in each cell, the nearest of all that the source may draw there, or nothing.

    Nearest in squared error over shapes, colours, sides, places and vividness, so that a soft picture is read as
    what it looks most like. A cell from which more is left over than the faintest shape holds is unreadable.
    """

    SLACK = 2  # pixels beyond the source's jitter in which shapes are looked for; one beyond its sides

    def __init__(self, source: ScenesSource) -> None:
        self.source, self.cell = source, source.size // 2
        reach = range(-source.jitter - self.SLACK, source.jitter + self.SLACK + 1)
        least, most = source.sides
        sides = range(max(least - 1, 1), most + 2)
        self.templates = list(itertools.product(SHAPES, sides, reach, reach))
        masks = np.stack([coverage(shape, self.cell, *rest) for shape, *rest in self.templates])
        colors = np.stack([full_color(color)[:, 0, 0] for color in source.colors])
        self.masks = torch.from_numpy(masks).float().flatten(1)  # (T, q²)
        self.colors = torch.from_numpy(colors).float()  # (C, 3)
        self.norms = self.masks.square().sum(1) * self.colors.square().sum(1)[:, None]  # (C, T)
        real = torch.tensor(
            [side >= least and max(-x, x, -y, y) <= source.jitter for _, side, x, y in self.templates]
        )
        self.limit = source.vividness[0] ** 2 * self.norms[:, real].min()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[list[Seen]]:
        """Read pictures (B, 3, S, S) uint8."""
        side = self.source.size
        if images.shape[1:] != (3, side, side) or images.dtype != torch.uint8:
            found = f"{tuple(images.shape)} {images.dtype}"
            raise OnetokError(
                f"scenes-exact: found pictures {found}, expected (B, 3, {side}, {side}) torch.uint8"
            )
        cells = rearrange(to_float(images.cpu()), "b k (y h) (x w) -> (b y x) k (h w)", y=2, x=2)
        projected = torch.einsum("nkp,tp->nkt", cells, self.masks)  # (4B, 3, T)
        products = torch.einsum("ck,nkt->nct", self.colors, projected)  # (4B, C, T)
        vividness = (products / self.norms).clamp(*self.source.vividness)
        gains = vividness * (
            2 * products - vividness * self.norms
        )  # (4B, C, T), how much less error than empty
        gain, best = gains.flatten(1).max(dim=1)
        left = cells.square().sum(dim=(1, 2)) - gain.clamp(min=0)
        readings = [
            self._read(cell % 4, *row)
            for cell, row in enumerate(zip(gain.tolist(), best.tolist(), left.tolist(), strict=True))
        ]
        return [[thing for thing in readings[i : i + 4] if thing] for i in range(0, len(readings), 4)]

    def _read(self, cell: int, gain: float, best: int, left: float) -> Seen | None:
        color, template = divmod(best, len(self.templates))
        shape, side, right, down = self.templates[template]
        y, x = (self.cell * (step + 0.5) for step in divmod(cell, 2))
        if left > self.limit:
            return Seen(UNREADABLE, None, (x, y, x, y))
        if gain <= 0:
            return None
        x, y, half = x + right, y + down, side / 2
        return Seen(shape, self.source.colors[color], (x - half, y - half, x + half, y + half))
