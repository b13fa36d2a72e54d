"""Params of speed measurements."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import (
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
from onetok.study.schema.systems import Sampling, UnreleasedGenerator, UnreleasedTokenizer

Title = Annotated[str, Field(description="title above the table")]
MeasuredSeed = Annotated[
    Seed, Field(description="seed of the random weights, inputs and sampling of what is timed")
]
Precision = Annotated[
    Literal["float32", "bfloat16"], Field(description="precision of weights and of matrix products")
]


class Execution(Strict):
    """How a system is run on one type of device."""

    batch: Positive = Field(description="images of a call")
    precision: Precision
    compiled: bool = Field(description="whether the call is compiled by torch.compile")


class TokenizerSpeed(Strict):
    """Encode and decode of tokenizers with random weights, each beside the time of its products alone."""

    kind: Literal["tokenizers"]
    title: Title
    tokenizers: tuple[TokenizerName, ...] = Field(
        strict=False, min_length=1, description="tokenizers that are measured, from top to bottom"
    )
    seed: MeasuredSeed
    rounds: Iterations = Field(
        description="rounds of the measurement, in each of which a call and its products are timed once;"
        " medians count"
    )
    cpu: Execution = Field(description="how they are run on a CPU")
    cuda: Execution = Field(description="how they are run on a GPU")


class SamplingRun(Strict):
    """One call of a generator, with the settings of an entry of samples."""

    samples: SamplesName = Field(description="entry of samples whose generator and settings are measured")
    batch: Positive = Field(description="images of a call")
    compiled: bool = Field(
        description="whether the sampler is compiled by torch.compile; on a GPU RAR's steps are CUDA"
        " graphs, too"
    )


class GeneratorExecution(Strict):
    """Which generators are run on one type of device, and how."""

    precision: Precision
    runs: tuple[SamplingRun, ...] = Field(
        strict=False, min_length=1, description="calls that are measured, from top to bottom"
    )


class GeneratorSpeed(Strict):
    """Token sampling with random weights, beside the time of reading its weights and of its products."""

    kind: Literal["generators"]
    title: Title
    seed: MeasuredSeed
    rounds: Iterations = Field(
        description="rounds of the measurement, in each of which a call is timed between two measurements"
        " of the machine's memory bandwidth and rate of matrix products; medians count"
    )
    cpu: GeneratorExecution = Field(description="what is run on a CPU, and how")
    cuda: GeneratorExecution = Field(description="what is run on a GPU, and how")


class StudySystem(Strict):
    """A generator of the study with its tokenizer, by the samples that it draws."""

    kind: Literal["samples"]
    samples: SamplesName = Field(description="entry of samples whose generator and settings are measured")


class UnreleasedSystem(Strict):
    """A tokenizer and a generator of which no weights were released."""

    kind: Literal["unreleased"]
    tokenizer: UnreleasedTokenizer = Field(description="tokenizer that decodes the tokens")
    generator: UnreleasedGenerator = Field(description="generator that draws the tokens")
    sampling: Sampling = Field(description="settings of the generator's sampler")


class DiTModel(Strict):
    """A DiT (arXiv 2212.09748), class-conditional, on the latents of a VAE."""

    width: Annotated[Width, Field(multiple_of=4)] = Field(
        description="width of the transformer; positions are a sine and a cosine of each frequency, by row"
        " and by column, hence a multiple of 4"
    )
    layers: Depth = Field(description="transformer blocks")
    heads: Width = Field(description="attention heads of a block")
    patch: Pixels = Field(description="side of a patch of the latent image, in its pixels")
    latent: Pixels = Field(description="side of the VAE's latent image, in its pixels")
    channels: Width = Field(description="channels of the latent image")
    classes: Positive = Field(description="classes that it is conditioned on, without the null class")


class PublishedComparison(Strict):
    """The published speeds of a comparison, measured on another machine."""

    source: str = Field(description="where people find it: paper and table, or page")
    images_per_second: PositiveFloat = Field(description="images/s of the 1D system")
    diffusion_images_per_second: PositiveFloat = Field(description="images/s of the diffusion model")
    ratio: PositiveFloat = Field(description="how many times faster the 1D system is, as it is published")


class DiffusionComparison(Strict):
    """A 1D system, and the diffusion model that its speed is compared with."""

    label: str = Field(description="name of the comparison's row in the table")
    system: StudySystem | UnreleasedSystem = Field(
        discriminator="kind", description="the 1D system: a tokenizer and a generator with its settings"
    )
    diffusion: DiTModel = Field(description="sizes of the diffusion model")
    steps: Positive = Field(
        description="steps of diffusion for an image; all of them take the time of the measured ones"
    )
    published: PublishedComparison | None = Field(description="published speeds of both; null: none")


class ComparisonExecution(Strict):
    """How both systems of a comparison are run on one type of device."""

    batch: Positive = Field(description="images of a call, of both")
    precision: Precision


class ComparisonSpeed(Strict):
    """Images/s of token sampling and decoding beside those of a guided DiT, both with random weights."""

    kind: Literal["comparisons"]
    title: Title
    note: str = Field(description="explanation that is printed below the table")
    comparisons: tuple[DiffusionComparison, ...] = Field(
        strict=False, min_length=1, description="comparisons that are measured, from top to bottom"
    )
    seed: MeasuredSeed
    rounds: Iterations = Field(
        description="rounds of the measurement, in each of which a call and one step of diffusion are"
        " timed; medians count"
    )
    cpu: ComparisonExecution = Field(description="how they are run on a CPU")
    cuda: ComparisonExecution = Field(description="how they are run on a GPU")


Speed = Annotated[TokenizerSpeed | GeneratorSpeed | ComparisonSpeed, Field(discriminator="kind")]
