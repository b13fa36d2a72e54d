"""Params of the spread: under which seeds and instruction sets a study is run again, and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import Count, Strict

InstructionSet = Annotated[
    Literal["sse41", "avx2", "native"],
    Field(
        description="widest instruction set that torch and oneDNN may use; native: all that the processor has"
    ),
]


class SpreadRun(Strict):
    """One more run of the whole study."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = Field(
        description="name of the run, and of the folder and the file that hold it"
    )
    seed_offset: Count = Field(description="added to every seed of training, initialisation and sampling")
    instructions: InstructionSet


class Spread(Strict):
    """How figures are compared with the runs that are kept (onetok.spread.intervals)."""

    chance: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="probability that a run without a fault leaves any interval of all tables together"
    )
    gate: Annotated[float, Field(ge=1, le=1000)] = Field(
        description="how many times as wide as its interval a figure's gate is; beyond it a figure is a"
        " fault, not chance"
    )
    runs: tuple[SpreadRun, ...] = Field(
        strict=False, min_length=2, description="runs from whose figures the intervals are computed"
    )
