"""Settings of MaskGen on discrete tokens and on continuous ones: of params, and the configs of its models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.architecture import TransformerSize
from onetok.study.schema.base import (
    BelowOne,
    CodebookSize,
    Count,
    Depth,
    Iterations,
    NonNegativeFloat,
    PositiveFloat,
    Strict,
    Width,
)
from onetok.study.schema.generators import (
    CaptionEntry,
    FineTunedCaptionGenerator,
    Latents,
    MaskedLoss,
    ReleasedGenerator,
    TrainedCaptionGenerator,
)
from onetok.study.schema.sampling import MaskSchedule, SamplingEntry


class MMDiTSettings(TransformerSize):
    """What params and the config of the backbone have in common."""

    aesthetic_width: Annotated[Width, Field(multiple_of=2)] = Field(
        description="channels of the embedded aesthetic score: a sine and a cosine of each frequency"
    )


class MMDiTConfig(MMDiTSettings):
    """All that the MM-DiT is built from."""

    text_width: Width = Field(description="S, channels of a text state")
    pooled_width: Width = Field(description="P, channels of the pooled text state")
    checkpointing: bool = Field(
        description="in training, compute all blocks' activations but the last's twice rather than keep them"
    )


class MaskGenModel(MMDiTSettings):
    """An MM-DiT over tokens and text."""

    text_dropout: BelowOne = Field(description="share of training samples that see the empty caption")


class TrainedModel(MaskGenModel):
    init_std: PositiveFloat = Field(description="standard deviation of embeddings as they start")
    checkpointing: bool = Field(
        description="in training, compute activations twice rather than keep them: less memory"
    )


class DiffusionHeadSettings(Strict):
    """The network that denoises one token's latents."""

    width: Width = Field(description="channels of its layers")
    layers: Depth = Field(description="residual blocks")


class DiffusionHeadConfig(DiffusionHeadSettings):
    """All that the diffusion head is built from."""

    channels: Width = Field(description="C, channels of a token")
    condition_width: Width = Field(description="Z, channels of the backbone's states")


class ReleasedKLModel(MaskGenModel, Latents):
    """MaskGen-KL with released weights."""

    head: DiffusionHeadSettings = Field(description="the network that denoises one token's latents")


class MaskGenKLModel(ReleasedKLModel, TrainedModel):
    """MaskGen-KL, trained here."""


class MaskGenConfig(Strict):
    """What the configs of both MaskGens have in common."""

    tokens: Width = Field(description="N, tokens of an image")
    backbone: MMDiTConfig
    text_dropout: BelowOne = Field(description="share of training samples that see the empty caption")
    init_std: PositiveFloat = Field(description="standard deviation of embeddings as they start")


class MaskGenVQConfig(MaskGenConfig):
    """All that MaskGen-VQ is built from."""

    codebook_size: CodebookSize = Field(description="V, values of a token id")
    spare_rows: Count = Field(
        description="rows of the embedding after codes and mask; released weights have 1001"
    )


class MaskGenKLConfig(MaskGenConfig, Latents):
    """All that MaskGen-KL is built from."""

    channels: Width = Field(description="C, channels of a token")
    head_width: Width = Field(description="channels of the diffusion head")
    head_layers: Depth = Field(description="residual blocks of the diffusion head")


class DiffusionLoss(Strict):
    """The diffusion loss of the tokens that were masked."""

    mask_schedule: MaskSchedule = Field(
        description="from a uniform number to the share of tokens that is masked"
    )
    repeats: Iterations = Field(description="times that the head sees a masked token, each with other noise")


class MaskGenText(CaptionEntry):
    """What all MaskGens take of a caption."""

    text_layer = "penultimate"
    reads_aesthetic = True


class VQEntry(MaskGenText):
    """What generators of discrete tokens have in common."""

    sampling_kind = "masked"
    model: MaskGenModel = Field(description="the MM-DiT")


class KLEntry(MaskGenText):
    """What generators of continuous tokens have in common."""

    sampling_kind = "latents"
    continuous = True
    model: ReleasedKLModel = Field(description="the MM-DiT, the latents and the diffusion head")


class MaskGenVQGenerator(TrainedCaptionGenerator, VQEntry):
    """MaskGen-VQ, trained here."""

    kind: Literal["maskgen-vq"]
    model: TrainedModel = Field(description="the MM-DiT")
    loss: MaskedLoss = Field(description="of the tokens that were masked")


class MaskGenKLGenerator(TrainedCaptionGenerator, KLEntry):
    """MaskGen-KL, trained here."""

    kind: Literal["maskgen-kl"]
    model: MaskGenKLModel = Field(description="the MM-DiT, the latents and the diffusion head")
    loss: DiffusionLoss = Field(description="of the tokens that were masked")


class FineTunedGenerator(FineTunedCaptionGenerator, MaskGenText):
    """MaskGen's second stage: the model and the loss are those of the first, whose weights it starts from."""

    kind: Literal["maskgen-tuned"]

    first_types = (MaskGenVQGenerator, MaskGenKLGenerator)


class ReleasedMaskGenVQ(ReleasedGenerator, VQEntry):
    """MaskGen-VQ with released weights."""

    kind: Literal["published-maskgen-vq"]


class ReleasedMaskGenKL(ReleasedGenerator, KLEntry):
    """MaskGen-KL with released weights."""

    kind: Literal["published-maskgen-kl"]
    model: ReleasedKLModel = Field(description="the MM-DiT, the latents and the diffusion head")


class RevealGuidance(Strict):
    """Guidance that grows with the tokens that are known."""

    kind: Literal["constant", "linear"] = Field(description="whether the weight grows with the known tokens")
    scale: Annotated[PositiveFloat, Field(ge=1)] = Field(description="1 is no guidance")

    def __str__(self) -> str:
        return f"{self.kind} guidance {self.scale:g}"


class LatentSampling(SamplingEntry):
    """Masked rounds, in each of which the diffusion head samples the latents of some tokens."""

    kind: Literal["latents"]
    rounds: Iterations = Field(description="forward passes of the backbone")
    diffusion_steps: Annotated[int, Field(ge=2, le=1000)] = Field(
        description="of the 1000 that the head was trained on, in each round"
    )
    temperature: NonNegativeFloat = Field(description="of the noise that a step of the diffusion adds")
    clip: PositiveFloat | None = Field(
        description="bound of the predicted latents in the generator's scale; null: none, as published"
    )
    guidance: RevealGuidance = Field(description="classifier-free guidance by the caption")
    mask_schedule: MaskSchedule = Field(
        description="share of tokens that stay masked after a share of the rounds"
    )

    def summary(self) -> str:
        rounds = f"{self.rounds} rounds of {self.diffusion_steps} diffusion steps"
        clipped = f", predictions clipped at {self.clip:g}" if self.clip is not None else ""
        settings = f"temperature {self.temperature:g}, {self.guidance}"
        return f"{rounds}{clipped}, {settings}, {self.mask_schedule} schedule"


GENERATORS = (
    MaskGenVQGenerator,
    MaskGenKLGenerator,
    FineTunedGenerator,
    ReleasedMaskGenVQ,
    ReleasedMaskGenKL,
)
SAMPLINGS = (LatentSampling,)
