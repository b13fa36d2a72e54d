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


class DiscriminatorSchedule(Schedule):
    """A schedule that may be longer than the training that follows it."""

    steps: Positive = Field(
        description="from the discriminator's first step to the rate `end`; where training ends before, so does the"
        " rate's fall; unused by constant"
    )


class Training(Strict):
    steps: Count
    batch: Positive = Field(description="global: over all processes and accumulation steps")
    accumulation: Positive
    seed: RunSeed
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="of the trained model's products, under autocast; losses and frozen networks compute in float32"
        " whatever stands here. float16 needs a GPU, bfloat16 works on a CPU too"
    )
    max_gradient_norm: PositiveFloat | None = Field(
        description="gradients of a larger norm are scaled down to it; null: they are not"
    )
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
