"""Params of the spread: under which seeds and instruction sets a study is run again, and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import Count, Strict

InstructionSet = Annotated[
    Literal["sse41", "avx2", "native"],
    Field(description="which torch and oneDNN may use; native: all that the processor has"),
]


class SpreadRun(Strict):
    """One more run of the whole study."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    seed_offset: Count = Field(description="added to every seed of training, initialisation and sampling")
    instructions: InstructionSet


class Spread(Strict):
    """How figures are compared with the runs that are kept (onetok.spread.intervals)."""

    chance: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="that a right run leaves any interval of all tables together"
    )
    gate: Annotated[float, Field(ge=1, le=1000)] = Field(
        description="widths of an interval beyond which a figure is no luck but a fault"
    )
    runs: tuple[SpreadRun, ...] = Field(strict=False, min_length=2)
