"""Params of speed measurements."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import (
    Depth,
    Iterations,
    Pixels,
    Positive,
    PositiveFloat,
    SamplesName,
    Seed,
    Strict,
    TokenizerName,
    Width,
)
from onetok.params.generators import GeneratorModel, MaskedSampling
from onetok.params.tokenizers import PublishedModel


class Execution(Strict):
    """How a system is run on one type of device."""

    batch: Positive = Field(description="images of a call")
    precision: Literal["float32", "bfloat16"]
    compiled: bool = Field(description="by torch.compile")


class TokenizerSpeed(Strict):
    """Encode and decode of tokenizers with random weights, each beside the time of its products alone."""

    kind: Literal["tokenizers"]
    title: str
    tokenizers: tuple[TokenizerName, ...] = Field(strict=False, min_length=1)
    seed: Seed
    rounds: Iterations = Field(description="in each, a call and its products are timed once; medians count")
    cpu: Execution
    cuda: Execution


class SamplingRun(Strict):
    """One call of a generator, with the settings of an entry of samples."""

    samples: SamplesName
    batch: Positive = Field(description="images of a call")
    compiled: bool = Field(description="by torch.compile; on a GPU RAR's steps are CUDA graphs, too")


class GeneratorExecution(Strict):
    """Which generators are run on one type of device, and how."""

    precision: Literal["float32", "bfloat16"]
    runs: tuple[SamplingRun, ...] = Field(strict=False, min_length=1)


class GeneratorSpeed(Strict):
    """Token sampling with random weights, beside the time of reading its weights and of its products."""

    kind: Literal["generators"]
    title: str
    seed: Seed
    rounds: Iterations = Field(description="in each, a call is timed between two measurements of the machine")
    cpu: GeneratorExecution
    cuda: GeneratorExecution


class StudySystem(Strict):
    """A generator of the study with its tokenizer, by the samples that it draws."""

    kind: Literal["samples"]
    samples: SamplesName


class UnreleasedGenerator(Strict):
    """A MaskGIT-ViT."""

    classes: Positive
    model: GeneratorModel


class UnreleasedSystem(Strict):
    """TiTok and MaskGIT-ViT of which no weights were released; what is known of them is written here."""

    kind: Literal["unreleased"]
    size: Pixels = Field(description="of an image's side")
    stages: Literal[1, 2] = Field(description="1: the decoder makes pixels; 2: it makes a VQGAN's codes")
    tokenizer: PublishedModel
    generator: UnreleasedGenerator
    sampling: MaskedSampling


class DiTModel(Strict):
    width: Annotated[Width, Field(multiple_of=4)] = Field(
        description="a sine and a cosine of each frequency, by row and by column"
    )
    layers: Depth
    heads: Width
    patch: Pixels
    latent: Pixels = Field(description="side of the VAE's latent image")
    channels: Width = Field(description="of the latent image")
    classes: Positive


class PublishedPair(Strict):
    source: str = Field(description="where people find it")
    images_per_second: PositiveFloat
    beside: PositiveFloat = Field(description="images/s of the diffusion model")
    ratio: PositiveFloat = Field(description="as it is published")


class Pair(Strict):
    label: str
    system: StudySystem | UnreleasedSystem = Field(discriminator="kind")
    diffusion: DiTModel
    steps: Positive = Field(description="of diffusion; all of them take the time of the measured ones")
    published: PublishedPair | None


class PairExecution(Strict):
    batch: Positive = Field(description="images of a call, of both")
    precision: Literal["float32", "bfloat16"]


class PairSpeed(Strict):
    """Images/s of token sampling and decoding beside those of a guided DiT, both with random weights."""

    kind: Literal["pairs"]
    title: str
    note: str
    pairs: tuple[Pair, ...] = Field(strict=False, min_length=1)
    seed: Seed
    rounds: Iterations = Field(description="in each, a call and one step of diffusion are timed")
    cpu: PairExecution
    cuda: PairExecution


Speed = Annotated[TokenizerSpeed | GeneratorSpeed | PairSpeed, Field(discriminator="kind")]
