"""Params of training: what every trained artefact says of its run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from onetok.study.schema.base import (
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
    """AdamW (arXiv 1711.05101)."""

    learning_rate: PositiveFloat = Field(description="learning rate after warm-up, from which it may decay")
    betas: tuple[BelowOne, BelowOne] = Field(
        strict=False, description="decay rates of the moving averages of the gradient and of its square"
    )
    epsilon: PositiveFloat = Field(description="added to the denominator of a step for numerical stability")
    weight_decay: NonNegativeFloat = Field(
        description="decoupled weight decay; parameters with fewer than two dimensions, and those that a"
        " system exempts by name, have none"
    )


class Schedule(Strict):
    """The learning rate by step: a linear warm-up from 0, then what `kind` says."""

    kind: Literal["cosine", "constant"] = Field(
        description="learning rate after warm-up: cosine decay to `end` at the last step, or constant"
    )
    warmup: Count = Field(description="steps of the linear warm-up, fewer than those of training")
    end: NonNegativeFloat = Field(description="learning rate at the last step; unused by constant")


class DiscriminatorSchedule(Schedule):
    """A schedule that may be longer than the training that follows it."""

    steps: Positive = Field(
        description="steps over which the discriminator's learning rate falls to `end`, counted from its"
        " first step; where training ends before, so does the fall; unused by constant"
    )


class Training(Strict):
    """A training run: how long, on how much at a time, and with which optimizer."""

    steps: Count = Field(description="optimizer steps; 0: the model stays as it is initialised")
    batch: Positive = Field(
        description="images of a batch, or their token sequences, over all processes and accumulation steps"
    )
    accumulation: Positive = Field(
        description="micro-batches into which a process's share of the batch is split; their gradients are"
        " accumulated for one optimizer step, which saves memory"
    )
    seed: RunSeed = Field(
        description="seed of the initialisation, the order of the samples, augmentation and the randomness"
        " in every step"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="precision of the trained model's matrix products, under autocast; losses and frozen"
        " networks compute in float32 whatever stands here. float16 needs a GPU, bfloat16 works on a CPU too"
    )
    max_gradient_norm: PositiveFloat | None = Field(
        description="gradients of a larger norm are scaled down to it; null: they are not"
    )
    ema_decay: BelowOne | None = Field(
        description="decay of the exponential moving average of the weights, after a warm-up of its own; the"
        " average is what is exported. null: no average, the last weights are exported"
    )
    optimizer: AdamW = Field(description="the optimizer of the trained model, and its learning rate")
    schedule: Schedule = Field(description="how the learning rate changes over the steps")
    log_every: Positive = Field(
        description="steps between two rows of logged scalars, each the mean over these steps"
    )
    checkpoint_every: Positive = Field(
        description="steps between two checkpoints, from which an interrupted run goes on; a multiple of"
        " log_every"
    )


class CodebookFloor(Strict):
    """Stops training where less of the codebook is used, counted over the steps between two log rows."""

    usage: Fraction = Field(description="smallest share of the codebook's entries that must be used")
    after: Count = Field(description="first steps of training, which are not checked")


class TokenizerTraining(Training):
    """A training run of a tokenizer."""

    picture_every: Positive = Field(
        description="steps between two pictures of validation images above their reconstructions"
    )
    codebook_floor: CodebookFloor | None = Field(
        description="usage of the codebook below which training ends with an error; null: it is not checked"
    )
