"""Settings of RAR: of params, and the config of its model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.base import Count, NonNegativeFloat, PositiveFloat, Strict
from onetok.study.schema.generators import (
    ClassConfig,
    ClassEntry,
    ClassModel,
    ReleasedGenerator,
    TrainedGenerator,
)
from onetok.study.schema.sampling import Guidance, SamplingEntry


class RARModel(ClassModel):
    init_std: PositiveFloat = Field(description="standard deviation of weights and embeddings as they start")
    checkpointing: bool = Field(
        description="in training, compute the blocks' activations twice rather than keep them: less memory"
    )


class RARConfig(ClassConfig, RARModel):
    """All that the network is built from."""

    @property
    def no_class_id(self) -> int:
        return self.codebook_size + 1 + self.classes

    @property
    def vocabulary(self) -> int:
        return self.codebook_size + self.classes + 2


class RandomnessAnnealing(Strict):
    """How often a sample's tokens are predicted in random order: always, then less and less, then never."""

    start: Count = Field(description="last step at which every order is random")
    end: Count = Field(description="first step at which none is; 0 for plain autoregressive training")

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end {self.end} is before start {self.start}")
        return self

    def probability(self, step: int) -> float:
        """Return the probability of a random order at `step`, which falls linearly between start and end.

        RAR, arXiv 2411.00776, equation 5.
        """
        if step < self.start:
            return 1.0
        if step >= self.end:
            return 0.0
        return (self.end - step) / (self.end - self.start)


class RAREntry(ClassEntry):
    """What RARs that are trained here and released ones have in common."""

    sampling_kind = "autoregressive"
    model: ClassModel = Field(description="the transformer")


class RARGenerator(TrainedGenerator, RAREntry):
    """A RAR that is trained here."""

    kind: Literal["rar"]
    model: RARModel = Field(description="the transformer")
    annealing: RandomnessAnnealing = Field(description="how often orders are random, by the step")


class ReleasedRAR(ReleasedGenerator, RAREntry):
    """A RAR with released weights."""

    kind: Literal["published-rar"]


class AutoregressiveSampling(SamplingEntry):
    """One token after the other, in raster order."""

    kind: Literal["autoregressive"]
    temperature: NonNegativeFloat = Field(
        description="the logits are divided by it; 0 takes the likeliest token"
    )
    guidance: Guidance = Field(description="classifier-free guidance by the class")

    def summary(self) -> str:
        return f"one token a step, temperature {self.temperature:g}, {self.guidance}"


GENERATORS = (RARGenerator, ReleasedRAR)
SAMPLINGS = (AutoregressiveSampling,)
