"""Params of generators, of how they sample, and of the images that they draw."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import (
    BenchmarkName,
    Count,
    Fraction,
    GeneratorName,
    Positive,
    Strict,
    TokenizerName,
    TokensName,
)
from onetok.params.encoders import WeightsFile
from onetok.params.training import Training

MaskSchedule = Literal["arccos", "cosine", "linear", "root", "square"]


class GeneratorModel(Strict):
    width: Positive
    layers: Positive = Field(description="even for the U-ViT, which has one more block in the middle")
    heads: Positive
    hidden: Positive
    dropout: Fraction
    attention_dropout: Fraction
    class_dropout: Fraction


class MaskGITModel(GeneratorModel):
    init_std: float


class RARModel(MaskGITModel):
    checkpointing: bool = Field(description="compute activations twice rather than keep them: less memory")


class MaskedLoss(Strict):
    mask_schedule: MaskSchedule
    label_smoothing: Fraction
    unmasked_weight: Fraction


class TrainedGenerator(Strict):
    tokens: TokensName
    classes: Positive
    training: Training


class MaskGITGenerator(TrainedGenerator):
    model: MaskGITModel
    loss: MaskedLoss


class MaskGITViTGenerator(MaskGITGenerator):
    kind: Literal["maskgit-vit"]


class MaskGITUViTGenerator(MaskGITGenerator):
    kind: Literal["maskgit-uvit"]


class RandomnessAnnealing(Strict):
    """How often a sample's tokens are predicted in random order: always, then less and less, then never."""

    start: Count = Field(description="last step of always")
    end: Count = Field(description="first step of never; 0 for plain autoregressive training")


class RARGenerator(TrainedGenerator):
    kind: Literal["rar"]
    model: RARModel
    annealing: RandomnessAnnealing


class PublishedGenerator(Strict):
    tokenizer: TokenizerName = Field(description="whose ids it draws")
    classes: Positive
    model: GeneratorModel
    weights: WeightsFile


class PublishedMaskGITViT(PublishedGenerator):
    kind: Literal["published-maskgit-vit"]


class PublishedMaskGITUViT(PublishedGenerator):
    kind: Literal["published-maskgit-uvit"]


class PublishedRAR(PublishedGenerator):
    kind: Literal["published-rar"]


Generator = Annotated[
    MaskGITViTGenerator
    | MaskGITUViTGenerator
    | RARGenerator
    | PublishedMaskGITViT
    | PublishedMaskGITUViT
    | PublishedRAR,
    Field(discriminator="kind"),
]


class Guidance(Strict):
    kind: Literal["constant", "linear", "power-cosine"]
    scale: Annotated[float, Field(ge=0)]
    power: float = Field(description="exponent of power-cosine; unused by the others")


class MaskedSampling(Strict):
    kind: Literal["masked"]
    steps: Positive
    temperature: float
    guidance: Guidance
    mask_schedule: MaskSchedule
    softmax_annealing: bool


class AutoregressiveSampling(Strict):
    kind: Literal["autoregressive"]
    temperature: float
    guidance: Guidance


Sampling = Annotated[MaskedSampling | AutoregressiveSampling, Field(discriminator="kind")]


class Samples(Strict):
    """Images drawn for a benchmark, which says how many."""

    generator: GeneratorName
    benchmark: BenchmarkName
    seed: Count
    micro_batch: Positive
    sampling: Sampling
