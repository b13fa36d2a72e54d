"""Scenes: pictures of a few flat shapes with captions, of which everything is known.

A picture is a black grid of 2 x 2 cells. A cell is empty or holds one shape of one colour, near its middle. The
colours are corners of the RGB cube, as bright as the scene's vividness. The prompts are those of GenEval's six tasks
(arXiv 2310.11513, section 3); a scene shows what its prompt asks for and nothing else. Why scenes look like this is in
docs/decisions/0010-scenes-for-learnability.md.

Legend: S pixels of the picture's side · q = S/2 of a cell's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from onetok.data.records import Excluded, Prompt, Record, Wanted
from onetok.params import SceneColor, ScenesSource, Task

SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "purple": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
}
PLACES = ("top left", "top right", "bottom left", "bottom right")  # cells in reading order
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TASKS: tuple[Task, ...] = get_args(Task)
UNREADABLE = "unreadable"  # the class of something that is no shape
AESTHETIC = (4.0, 7.0)  # scores of the dullest and of the most vivid scene

_CELLS = {  # of the first and of the second shape
    "left of": ((0, 1), (2, 3)),
    "right of": ((1, 0), (3, 2)),
    "above": ((0, 2), (1, 3)),
    "below": ((2, 0), (3, 1)),
}
_DISJOINT = ("two_object", "position", "color_attr")  # tasks with requests enough to keep some from training
_NUMBERS = ("zero", "one", "two", "three", "four")
_FRAMES = ("a picture of {}", "a drawing of {}", "a small image of {}", "a photo of {}")
_POINTS = 8  # along a pixel's side, whose share inside the shape is the pixel's coverage

Split = Literal["train", "val", "held-out"]


class Request(NamedTuple):
    """What a caption asks for."""

    task: Task
    shapes: tuple[str, ...]  # in the caption's order
    colors: tuple[SceneColor | None, ...]  # of each shape, where the caption says it
    number: int  # of each shape
    relation: str | None  # of the first shape to the second

    @property
    def caption(self) -> str:
        if self.number > 1:
            return f"{_NUMBERS[self.number]} {self.shapes[0]}s"
        names = [
            f"a {color} {shape}" if color else f"a {shape}"
            for shape, color in zip(self.shapes, self.colors, strict=True)
        ]
        return f" {self.relation or 'and'} ".join(names)

    @property
    def mirror(self) -> Request:
        """The same scene in other words: shapes in the other order, and so the relation."""
        relation = MIRRORED[self.relation] if self.relation else None
        return self._replace(shapes=self.shapes[::-1], colors=self.colors[::-1], relation=relation)

    def prompt(self, held_out: bool) -> Prompt:
        """Return the record for scoring; what the caption does not ask for is excluded."""
        include = [
            Wanted(name=shape, count=self.number, color=color)
            for shape, color in zip(self.shapes, self.colors, strict=True)
        ]
        if self.relation is not None:
            first, second = include
            include = [second, first.model_copy(update={"position": (self.relation, 0)})]
        limits = dict.fromkeys((*SHAPES, UNREADABLE), 1) | dict.fromkeys(self.shapes, self.number + 1)
        return Prompt(
            tag=self.task,
            include=tuple(include),
            exclude=tuple(Excluded(name=name, count=count) for name, count in limits.items()),
            prompt=self.caption,
            held_out=held_out,
        )


class Thing(NamedTuple):
    """One shape of a scene."""

    shape: str
    color: str
    cell: int  # in reading order
    side: int  # pixels
    right: int  # pixels from the cell's middle
    down: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    request: Request
    held_out: bool
    things: tuple[Thing, ...]  # in the caption's order
    aesthetic: float
    frame: str

    @property
    def augmented(self) -> str:
        """A longer caption: the same request, then what it leaves open, every colour and place."""
        if self.request.number > 1:
            places = ", ".join(PLACES[thing.cell] for thing in self.things)
            details = f"all {self.things[0].color}, at the {places}"
        else:
            details = ", ".join(f"a {t.color} {t.shape} at the {PLACES[t.cell]}" for t in self.things)
        return f"{self.frame.format(self.request.caption)}: {details}"

    @property
    def record(self) -> Record:
        prompt = self.request.prompt(self.held_out)
        return Record(aesthetic=self.aesthetic, augmented=self.augmented, prompt=prompt)

    def label(self, colors: tuple[str, ...]) -> int:
        """Return the class, shape and colour of the first thing in reading order: an int below 3 · colours."""
        first = min(self.things, key=lambda thing: thing.cell)
        return SHAPES.index(first.shape) * len(colors) + colors.index(first.color)


# ---------------------------------------------------------------------------------------------- prompts


@dataclass(frozen=True)
class Requests:
    """All that captions ask for, by task, for each split."""

    train: dict[str, list[Request]]
    val: dict[str, list[Request]]
    held_out: list[Request]


@lru_cache(maxsize=2)
def requests(source: ScenesSource) -> Requests:
    """Divide the requests between the splits.

    Held-out requests name a shape in a colour that training never shows, or a relation of two shapes that it never
    names. Of the tasks that name two shapes an evaluation share is kept from training; the others ask for the same in
    both splits.
    """
    train: dict[str, list[Request]] = {}
    val: dict[str, list[Request]] = {}
    held_out: list[Request] = []
    for number, task in enumerate(TASKS):
        every = _enumerate(task, source)
        held_out += [request for request in every if _is_held_out(request, source)]
        usual = [request for request in every if not _is_held_out(request, source)]
        if task in _DISJOINT:
            kept = _draw_apart(usual, source, np.random.default_rng([source.seed, 0, number]))
            val[task] = [request for request in usual if request in kept]
            train[task] = [request for request in usual if request not in kept]
        else:
            train[task] = val[task] = usual
    return Requests(train, val, held_out)


def _draw_apart(usual: list[Request], source: ScenesSource, rng: np.random.Generator) -> set[Request]:
    """Draw the evaluation share of requests, never both a request and its mirror."""
    kept: set[Request] = set()
    for number in rng.permutation(len(usual)):
        if len(kept) < round(source.evaluation_share * len(usual)) and usual[number].mirror not in kept:
            kept.add(usual[number])
    return kept


def _enumerate(task: Task, source: ScenesSource) -> list[Request]:
    pairs = list(itertools.permutations(SHAPES, 2))
    match task:
        case "single_object":
            return [Request(task, (shape,), (None,), 1, None) for shape in SHAPES]
        case "two_object":
            return [Request(task, pair, (None, None), 1, None) for pair in pairs]
        case "counting":
            return [Request(task, (shape,), (None,), n, None) for shape in SHAPES for n in (2, 3, 4)]
        case "colors":
            return [Request(task, (s,), (color,), 1, None) for s in SHAPES for color in source.colors]
        case "position":
            return [Request(task, pair, (None, None), 1, word) for pair in pairs for word in MIRRORED]
        case _:
            colors = list(itertools.permutations(source.colors, 2))
            return [Request(task, pair, two, 1, None) for pair in pairs for two in colors]


def _is_held_out(request: Request, source: ScenesSource) -> bool:
    named = zip(request.colors, request.shapes, strict=True)
    if any(pair in source.held_out_colors for pair in named):
        return True
    if request.relation is None:
        return False
    said = {(both.shapes[0], both.relation, both.shapes[1]) for both in (request, request.mirror)}
    return any(relation in said for relation in source.held_out_relations)


# ---------------------------------------------------------------------------------------------- scenes


def scene(source: ScenesSource, split: Split, index: int) -> Scene:
    """Return scene `index` of a split, a function of the source's seed; tasks take turns."""
    rng = np.random.default_rng([source.seed, 1 + ("train", "val", "held-out").index(split), index])
    every = requests(source)
    task, turn = TASKS[index % len(TASKS)], index // len(TASKS)
    if split == "held-out":
        request = every.held_out[index % len(every.held_out)]
    elif split == "val":
        request = every.val[task][turn % len(every.val[task])]
    else:
        request = _draw_request(task, every, source, rng)
    score = round(float(rng.uniform(*AESTHETIC)), 2)
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    things = _arrange(request, source, rng)
    return Scene(request=request, held_out=split == "held-out", things=things, aesthetic=score, frame=frame)


def _draw_request(task: Task, every: Requests, source: ScenesSource, rng: np.random.Generator) -> Request:
    """Draw what a training caption asks for; a relation that is kept for evaluation, only of coloured shapes."""
    if task == "position" and rng.random() < source.colored_positions:
        plain = every.train[task] + every.val[task]
        request = plain[rng.integers(len(plain))]
        return request._replace(colors=tuple(_free_color(shape, source, rng) for shape in request.shapes))
    return every.train[task][rng.integers(len(every.train[task]))]


def _arrange(request: Request, source: ScenesSource, rng: np.random.Generator) -> tuple[Thing, ...]:
    if request.relation is not None:
        places = _CELLS[request.relation]
        cells = list(places[rng.integers(len(places))])
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
    place = (made.aesthetic - low) / (high - low)
    vividness = source.vividness[0] + place * (source.vividness[1] - source.vividness[0])
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
    """Return the share of each pixel of a cell that a shape covers: (q, q) in [0, 1]."""
    points = (np.arange(cell * _POINTS) + 0.5) / _POINTS - cell / 2
    x, y = (points - right)[None, :] / side, (points - down)[:, None] / side
    match shape:
        case "circle":
            inside = x**2 + y**2 <= 0.25
        case "square":
            inside = (np.abs(x) <= 0.5) & (np.abs(y) <= 0.5)
        case _:  # a triangle that stands on its base
            inside = (np.abs(x) <= (y + 0.5) / 2) & (y <= 0.5)
    shares: NDArray[np.float64] = inside.reshape(cell, _POINTS, cell, _POINTS).mean(axis=(1, 3))
    return shares
