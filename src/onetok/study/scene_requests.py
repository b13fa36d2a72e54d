"""What captions of scenes ask for: the prompts of GenEval's six tasks (arXiv 2310.11513, section 3), and which of them
a dataset keeps from training. Torch-free, because params are checked against it; onetok.data.scenes draws the pictures.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, get_args

import numpy as np

from onetok.study.schema.datasets import SceneColor, ScenesSource, Task
from onetok.study.schema.records import Excluded, Prompt, Wanted

SHAPES = ("circle", "square", "triangle")
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
TASKS: tuple[Task, ...] = get_args(Task)
UNREADABLE = "unreadable"  # the class of something that is no shape

_DISJOINT = ("two_object", "position", "color_attr")  # tasks with requests enough to keep some from training
_NUMBERS = ("zero", "one", "two", "three", "four")


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
