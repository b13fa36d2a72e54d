"""Scenes: synthetic images of a few flat shapes with captions, for which a detector can check each caption exactly.

An image is a black grid of 2 x 2 cells. A cell is empty or holds one shape of one colour, near its middle. The colours
are corners of the RGB cube, scaled by the scene's vividness. The prompts are those of GenEval's six tasks
(arXiv 2310.11513, section 3); a scene shows the shapes of its prompt and nothing else.
docs/decisions/0010-scenes-for-learnability.md explains these choices.

Legend: S side of the image in pixels · q = S/2 side of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onetok.study.scene_requests import SHAPES, TASKS, Request, Requests, requests
from onetok.study.schema.datasets import SceneColor, ScenesSource, Task
from onetok.study.schema.records import Record

COLORS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "purple": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
}
PLACES = ("top left", "top right", "bottom left", "bottom right")  # names of the cells, row by row
AESTHETIC = (4.0, 7.0)  # aesthetic scores of the least and of the most vivid scene

_CELLS = {  # relation → the possible cells of (first shape, second shape)
    "left of": ((0, 1), (2, 3)),
    "right of": ((1, 0), (3, 2)),
    "above": ((0, 2), (1, 3)),
    "below": ((2, 0), (3, 1)),
}
_FRAMES = ("a picture of {}", "a drawing of {}", "a small image of {}", "a photo of {}")
_POINTS = 8  # sample points along a pixel's side, for antialiasing

Split = Literal["train", "val", "held-out"]


class Thing(NamedTuple):
    """One shape of a scene."""

    shape: str
    color: str
    cell: int  # index in PLACES
    side: int  # in pixels
    right: int  # offset from the cell's middle in pixels
    down: int  # the same


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The description of one image, from which it is drawn and its captions are written."""

    request: Request  # what the caption asks for
    held_out: bool  # whether the request is of the held-out combinations, which training never shows
    things: tuple[Thing, ...]  # in the caption's order
    aesthetic: float  # in the range AESTHETIC
    frame: str  # one of _FRAMES

    @property
    def augmented(self) -> str:
        """A longer caption: the request, then every colour and position, also those that the caption leaves open."""
        if self.request.number > 1:
            places = ", ".join(PLACES[thing.cell] for thing in self.things)
            details = f"all {self.things[0].color}, at the {places}"
        else:
            details = ", ".join(f"a {t.color} {t.shape} at the {PLACES[t.cell]}" for t in self.things)
        return f"{self.frame.format(self.request.caption)}: {details}"

    @property
    def record(self) -> Record:
        """The scene's record in the dataset."""
        prompt = self.request.prompt(self.held_out)
        return Record(aesthetic=self.aesthetic, augmented=self.augmented, prompt=prompt)

    def label(self, colors: tuple[str, ...]) -> int:
        """Return the class label, shape · len(colors) + colour of the first thing, row by row."""
        first = min(self.things, key=lambda thing: thing.cell)
        return SHAPES.index(first.shape) * len(colors) + colors.index(first.color)


# ---------------------------------------------------------------------------------------------- scenes


def scene(source: ScenesSource, split: Split, index: int) -> Scene:
    """Return scene `index` of a split, a function of (the source's seed, split, index); the tasks alternate."""
    rng = np.random.default_rng([source.seed, 1 + ("train", "val", "held-out").index(split), index])
    every = requests(source)
    task, turn = TASKS[index % len(TASKS)], index // len(TASKS)
    if split == "held-out":
        request = every.held_out[index % len(every.held_out)]
    elif split == "val":
        request = every.val[task][turn % len(every.val[task])]
    else:
        request = _sample_request(task, every, source, rng)
    score = round(float(rng.uniform(*AESTHETIC)), 2)
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    things = _arrange(request, source, rng)
    return Scene(request=request, held_out=split == "held-out", things=things, aesthetic=score, frame=frame)


def _sample_request(task: Task, every: Requests, source: ScenesSource, rng: np.random.Generator) -> Request:
    """Return a random request for training.

    A share `colored_positions` of the requests for a relation also names both colours. These may use the relations of
    the evaluation prompts, which are without colours.
    """
    if task == "position" and rng.random() < source.colored_positions:
        plain = every.train[task] + every.val[task]
        request = plain[rng.integers(len(plain))]
        return request._replace(colors=tuple(_free_color(shape, source, rng) for shape in request.shapes))
    return every.train[task][rng.integers(len(every.train[task]))]


def _arrange(request: Request, source: ScenesSource, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Return the request's things at random cells, sizes, offsets and, where the request names none, colours."""
    if request.relation is not None:
        pairs = _CELLS[request.relation]
        cells = list(pairs[rng.integers(len(pairs))])
    else:
        cells = rng.permutation(len(PLACES))[: request.number * len(request.shapes)].tolist()
    colors = [
        color or _free_color(shape, source, rng)
        for shape, color in zip(request.shapes, request.colors, strict=True)
    ]
    things = []
    for position, cell in enumerate(cells):
        kind = position // request.number
        side = int(rng.integers(*source.sides, endpoint=True))
        right, down = (int(x) for x in rng.integers(-source.jitter, source.jitter, size=2, endpoint=True))
        things.append(Thing(request.shapes[kind], colors[kind], cell, side, right, down))
    return tuple(things)


def _free_color(shape: str, source: ScenesSource, rng: np.random.Generator) -> SceneColor:
    free = [color for color in source.colors if (color, shape) not in source.held_out_colors]
    return free[rng.integers(len(free))]


# ---------------------------------------------------------------------------------------------- pixels


def draw(made: Scene, source: ScenesSource) -> NDArray[np.uint8]:
    """Draw a scene: (3, S, S) uint8."""
    cell = source.size // 2
    image = np.zeros((3, source.size, source.size))
    low, high = AESTHETIC
    share = (made.aesthetic - low) / (high - low)  # 0 for the least vivid scene, 1 for the most vivid
    vividness = source.vividness[0] + share * (source.vividness[1] - source.vividness[0])
    for thing in made.things:
        top, left = (cell * step for step in divmod(thing.cell, 2))
        mask = coverage(thing.shape, cell, thing.side, thing.right, thing.down)  # (q, q)
        image[:, top : top + cell, left : left + cell] += vividness * mask * full_color(thing.color)
    return np.rint(image * 255).astype(np.uint8)


def full_color(color: str) -> NDArray[np.float64]:
    """Return a colour at full vividness: (3, 1, 1) in [0, 1]."""
    return np.array(COLORS[color]).reshape(3, 1, 1)


@cache
def coverage(shape: str, cell: int, side: int, right: int, down: int) -> NDArray[np.float64]:
    """Return the share of each pixel of a cell that a shape covers, by sample points: (q, q) in [0, 1]."""
    points = (np.arange(cell * _POINTS) + 0.5) / _POINTS - cell / 2  # (q·_POINTS,), in pixels from the middle
    x, y = (points - right)[None, :] / side, (points - down)[:, None] / side
    match shape:
        case "circle":
            inside = x**2 + y**2 <= 0.25
        case "square":
            inside = (np.abs(x) <= 0.5) & (np.abs(y) <= 0.5)
        case _:  # a triangle with its base at the bottom
            inside = (np.abs(x) <= (y + 0.5) / 2) & (y <= 0.5)
    shares: NDArray[np.float64] = inside.reshape(cell, _POINTS, cell, _POINTS).mean(axis=(1, 3))
    return shares
