"""Params of sampling: how tokens are sampled, and the sets of images that a study samples. The samplers of a system are
in its folder."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field

from onetok.study.schema.base import Iterations, NonNegativeFloat, Strict

MaskSchedule = Literal["arccos", "cosine", "linear", "root", "square"]


class Guidance(Strict):
    """Classifier-free guidance of generators of discrete tokens (onetok.sampling.guidance has the formulas)."""

    kind: Literal[
        "constant", "linear", "power-cosine", "maskgen-linear", "maskgen-cosine", "maskgen-flipped-cosine"
    ] = Field(description="how the weight changes over the steps, as each paper's released sampler has it")
    scale: NonNegativeFloat = Field(description="g; 0 is no guidance")
    power: NonNegativeFloat = Field(description="exponent of the cosines; unused by the others")

    def __str__(self) -> str:
        power = f", power {self.power:g}" if "cosine" in self.kind else ""
        return f"{self.kind} guidance {self.scale:g}{power}"


class SamplingEntry(Strict):
    """How a kind of generator is sampled."""

    kind: str

    @abstractmethod
    def summary(self) -> str:
        """Return the settings in words, as tables print them."""


class MaskedSampling(SamplingEntry):
    """Iterative decoding of masked tokens (MaskGIT, arXiv 2202.04200, section 3.2)."""

    kind: Literal["masked"]
    steps: Iterations = Field(description="S, forward passes of the generator")
    temperature: NonNegativeFloat = Field(
        description="of the Gumbel noise in the first step; falls linearly to 0 in the last"
    )
    guidance: Guidance = Field(description="classifier-free guidance")
    mask_schedule: MaskSchedule = Field(
        description="share of tokens that stay masked after a share of the steps"
    )
    softmax_annealing: bool = Field(
        description="divide the logits by a temperature that falls from 1.3 to 0.5 over the steps, as TiTok's release"
    )

    def summary(self) -> str:
        annealing = ", softmax annealing" if self.softmax_annealing else ""
        settings = f"{self.steps} steps, temperature {self.temperature:g}, {self.guidance}"
        return f"{settings}, {self.mask_schedule} schedule{annealing}"
