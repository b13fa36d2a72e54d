"""Params of generators, of how they sample, and of the images that they draw."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import (
    BelowOne,
    BenchmarkName,
    Count,
    Depth,
    EncoderName,
    Fraction,
    GeneratorName,
    Iterations,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    RunSeed,
    Strict,
    TokenizerName,
    TokensName,
    Width,
)
from onetok.params.encoders import WeightsFile
from onetok.params.training import Training

MaskSchedule = Literal["arccos", "cosine", "linear", "root", "square"]


class GeneratorModel(Strict):
    width: Width
    layers: Depth = Field(description="even for the U-ViT, which has one more block in the middle")
    heads: Width
    hidden: Width
    dropout: BelowOne
    attention_dropout: BelowOne
    class_dropout: BelowOne


class MaskGITModel(GeneratorModel):
    init_std: PositiveFloat


class RARModel(MaskGITModel):
    checkpointing: bool = Field(description="compute activations twice rather than keep them: less memory")


class MaskedLoss(Strict):
    mask_schedule: MaskSchedule
    label_smoothing: BelowOne
    unmasked_weight: Fraction


class TrainedGenerator(Strict):
    tokens: TokensName
    training: Training


class ClassGenerator(TrainedGenerator):
    classes: Positive


class MaskGITGenerator(ClassGenerator):
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


class RARGenerator(ClassGenerator):
    kind: Literal["rar"]
    model: RARModel
    annealing: RandomnessAnnealing


class MaskGenModel(Strict):
    """An MM-DiT over tokens and text."""

    width: Width
    layers: Depth
    heads: Width
    aesthetic_width: Annotated[Width, Field(multiple_of=2)] = Field(
        description="of the embedded aesthetic score: a sine and a cosine of each frequency"
    )
    text_dropout: BelowOne = Field(description="share of training samples that see the empty caption")


class DiffusionHead(Strict):
    width: Width
    layers: Depth


class MaskGenVQModel(MaskGenModel):
    init_std: PositiveFloat
    checkpointing: bool = Field(description="compute activations twice rather than keep them: less memory")


class MaskGenKLModel(MaskGenVQModel):
    scale: PositiveFloat = Field(description="of the latents, to a variance near 1")
    head: DiffusionHead


class DiffusionLoss(Strict):
    mask_schedule: MaskSchedule
    repeats: Iterations = Field(description="times that the head sees a masked token, each with other noise")


class CaptionChoice(Strict):
    """Which captions a generator learns from."""

    augmented: Fraction = Field(
        description="share of samples that get the augmented caption, if there is one"
    )


class TextGenerator(TrainedGenerator):
    text: EncoderName = Field(description="the frozen text encoder of captions")
    captions: CaptionChoice


class MaskGenVQGenerator(TextGenerator):
    kind: Literal["maskgen-vq"]
    model: MaskGenVQModel
    loss: MaskedLoss


class MaskGenKLGenerator(TextGenerator):
    kind: Literal["maskgen-kl"]
    model: MaskGenKLModel
    loss: DiffusionLoss


class FineTunedGenerator(TextGenerator):
    """MaskGen's second stage: the model and the loss are those of the first, whose weights it starts from."""

    kind: Literal["maskgen-tuned"]
    pretrained: GeneratorName


class PublishedGenerator(Strict):
    tokenizer: TokenizerName = Field(description="whose tokens it draws")
    weights: WeightsFile


class PublishedClassGenerator(PublishedGenerator):
    classes: Positive
    model: GeneratorModel


class PublishedTextGenerator(PublishedGenerator):
    text: EncoderName


class PublishedMaskGenVQ(PublishedTextGenerator):
    kind: Literal["published-maskgen-vq"]
    model: MaskGenModel


class PublishedMaskGenKLModel(MaskGenModel):
    scale: PositiveFloat
    head: DiffusionHead


class PublishedMaskGenKL(PublishedTextGenerator):
    kind: Literal["published-maskgen-kl"]
    model: PublishedMaskGenKLModel


class PublishedMaskGITViT(PublishedClassGenerator):
    kind: Literal["published-maskgit-vit"]


class PublishedMaskGITUViT(PublishedClassGenerator):
    kind: Literal["published-maskgit-uvit"]


class PublishedRAR(PublishedClassGenerator):
    kind: Literal["published-rar"]


Generator = Annotated[
    MaskGITViTGenerator
    | MaskGITUViTGenerator
    | RARGenerator
    | PublishedMaskGITViT
    | PublishedMaskGITUViT
    | PublishedRAR
    | MaskGenVQGenerator
    | MaskGenKLGenerator
    | FineTunedGenerator
    | PublishedMaskGenVQ
    | PublishedMaskGenKL,
    Field(discriminator="kind"),
]
READS_CAPTIONS = (TextGenerator, PublishedTextGenerator)


class Guidance(Strict):
    kind: Literal[
        "constant", "linear", "power-cosine", "maskgen-linear", "maskgen-cosine", "maskgen-flipped-cosine"
    ]
    scale: NonNegativeFloat
    power: NonNegativeFloat = Field(description="exponent of the cosines; unused by the others")


class MaskedSampling(Strict):
    kind: Literal["masked"]
    steps: Iterations
    temperature: NonNegativeFloat
    guidance: Guidance
    mask_schedule: MaskSchedule
    softmax_annealing: bool


class AutoregressiveSampling(Strict):
    kind: Literal["autoregressive"]
    temperature: NonNegativeFloat
    guidance: Guidance


class RevealGuidance(Strict):
    """Guidance that grows with the tokens that are known."""

    kind: Literal["constant", "linear"]
    scale: Annotated[PositiveFloat, Field(ge=1)] = Field(description="1 is no guidance")


class LatentSampling(Strict):
    kind: Literal["latents"]
    rounds: Iterations
    diffusion_steps: Annotated[int, Field(ge=2, le=1000)] = Field(
        description="of the 1000 that the head was trained on, in each round"
    )
    temperature: NonNegativeFloat = Field(description="of the noise that a step of the diffusion adds")
    clip: PositiveFloat | None = Field(
        description="bound of the predicted latents in the generator's scale; null: none, as published"
    )
    guidance: RevealGuidance
    mask_schedule: MaskSchedule


Sampling = Annotated[MaskedSampling | AutoregressiveSampling | LatentSampling, Field(discriminator="kind")]


class TextSampling(Strict):
    """What a generator of captions is told."""

    captions: Literal["own", "shuffled"] = Field(
        description="shuffled: those of other images of the benchmark, as a control"
    )
    aesthetic: Annotated[float, Field(ge=0, le=10)] = Field(description="score that the image shall have")


class Samples(Strict):
    """Images drawn for a benchmark, which says how many."""

    generator: GeneratorName
    benchmark: BenchmarkName
    seed: RunSeed
    micro_batch: Positive
    sampling: Sampling
    text: TextSampling | None = Field(description="null for generators of classes")
