"""Exact scores of captions of scenes: a caption is parsed, and all that it says is compared with what the scene shows.

The grammar is that of onetok.data.scenes, for captions and for augmented captions:

    a [colour] shape [(and | left of | right of | above | below) a [colour] shape]        two circles, three …, four …
    a picture of <one of the above>: a colour shape at the place, …                     … : all colour, at the place, …
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from onetok.data.scenes import COLORS, PLACES
from onetok.errors import OnetokError
from onetok.study.scene_requests import MIRRORED, SHAPES

_NUMBERS = {"two": 2, "three": 3, "four": 4}
_THING = rf"a (?:({'|'.join(COLORS)}) )?({'|'.join(SHAPES)})"
_ONE_OR_TWO = re.compile(rf"{_THING}(?: (and|{'|'.join(MIRRORED)}) {_THING})?")
_SEVERAL = re.compile(rf"({'|'.join(_NUMBERS)}) ({'|'.join(SHAPES)})s")
_FRAMED = re.compile(r"a (?:picture|drawing|small image|photo) of (.+): (.+)")
_PLACED = re.compile(rf"a ({'|'.join(COLORS)}) ({'|'.join(SHAPES)}) at the ({'|'.join(PLACES)})")
_ALL_PLACED = re.compile(
    rf"all ({'|'.join(COLORS)}), at the ((?:{'|'.join(PLACES)})(?:, (?:{'|'.join(PLACES)}))*)"
)


class Fact(NamedTuple):
    """One shape of a scene."""

    shape: str
    color: str
    cell: int  # index in PLACES

    @property
    def row(self) -> int:
        return self.cell // 2

    @property
    def column(self) -> int:
        return self.cell % 2


def facts_of(augmented: str) -> list[Fact]:
    """Return what a scene shows, from its augmented caption, which states all of it.

    Raises OnetokError for a caption of another form.
    """
    found = _details(augmented)
    if found is None:
        raise OnetokError(f"caption {augmented!r}: expected the augmented caption of a scene")
    return found


def is_exact(caption: str, facts: Sequence[Fact]) -> bool:
    """Return whether a caption names exactly the shapes of a scene, with no wrong number, colour, relation or place.

    A caption need not state colours and relations. One that is not of the grammar is wrong.
    """
    if framed := _FRAMED.fullmatch(caption):
        details = _details(caption)
        return details is not None and sorted(details) == sorted(facts) and is_exact(framed[1], facts)
    if several := _SEVERAL.fullmatch(caption):
        number, shape = several.groups()
        return len(facts) == _NUMBERS[number] and all(fact.shape == shape for fact in facts)
    named = _ONE_OR_TWO.fullmatch(caption)
    if named is None:
        return False
    color, shape, relation, second_color, second_shape = named.groups()
    things = [(color, shape)] + [(second_color, second_shape)] * (second_shape is not None)
    if len(things) != len(facts):
        return False
    return any(_shows(order, things) and _related(relation, order) for order in permutations(facts))


def _shows(facts: Sequence[Fact], things: Sequence[tuple[str | None, str]]) -> bool:
    """Return whether things, colour if it is stated and shape, are these facts one for one."""
    pairs = zip(things, facts, strict=True)
    return all(color in (None, fact.color) and shape == fact.shape for (color, shape), fact in pairs)


def _related(relation: str | None, order: Sequence[Fact]) -> bool:
    match relation:
        case "left of":
            return order[0].column < order[1].column
        case "right of":
            return order[0].column > order[1].column
        case "above":
            return order[0].row < order[1].row
        case "below":
            return order[0].row > order[1].row
        case _:
            return True


def _details(augmented: str) -> list[Fact] | None:
    """Return the shapes that the second half of an augmented caption states; None for a caption of another form."""
    framed = _FRAMED.fullmatch(augmented)
    if framed is None:
        return None
    several, placed = _SEVERAL.fullmatch(framed[1]), _ALL_PLACED.fullmatch(framed[2])
    if several and placed:
        return [Fact(several[2], placed[1], PLACES.index(place)) for place in placed[2].split(", ")]
    things = [_PLACED.fullmatch(text) for text in framed[2].split(", ")]
    if any(thing is None for thing in things):
        return None
    return [Fact(thing[2], thing[1], PLACES.index(thing[3])) for thing in things if thing]
