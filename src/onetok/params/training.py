"""Params of training: what every trained artefact says of its run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from onetok.params.base import (
    BelowOne,
    Count,
    Fraction,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    RunSeed,
    Strict,
)


class AdamW(Strict):
    learning_rate: PositiveFloat
    betas: tuple[BelowOne, BelowOne] = Field(strict=False)
    epsilon: PositiveFloat
    weight_decay: NonNegativeFloat


class Schedule(Strict):
    kind: Literal["cosine", "constant"]
    warmup: Count = Field(description="steps, fewer than those of training")
    end: NonNegativeFloat = Field(description="learning rate at the last step; unused by constant")


class Training(Strict):
    steps: Count
    batch: Positive = Field(description="global: over all processes and accumulation steps")
    accumulation: Positive
    seed: RunSeed
    precision: Literal["float32", "bfloat16", "float16"]
    max_gradient_norm: float
    ema_decay: BelowOne | None
    optimizer: AdamW
    schedule: Schedule
    log_every: Positive
    checkpoint_every: Positive


class CodebookFloor(Strict):
    """Stops training where less of the codebook is used, counted over the steps between two log rows."""

    usage: Fraction
    after: Count = Field(description="steps that are not checked")


class TokenizerTraining(Training):
    picture_every: Positive
    codebook_floor: CodebookFloor | None
