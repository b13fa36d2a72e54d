"""Params of benchmarks: what images are compared with, and by which networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import Count, DatasetName, EncoderName, Positive, Seed, Strict
from onetok.params.datasets import Images

EightBits = Literal["rounded", "truncated"]


class Reference(Strict):
    """The images that a benchmark compares with, and the networks that look at them."""

    dataset: DatasetName
    split: Literal["train", "val"]
    images: Images
    encoder: EncoderName
    reference_images: Positive = Field(description="how many the split has; another number is an error")
    judge: EncoderName = Field(description="independent of the encoder; its figures are marked")
    class_accuracy: bool = Field(description="whether the encoder's classes are the dataset's")
    batch: Positive
    inception_splits: Positive
    inception_shuffle_seed: Seed | None = Field(
        description="of the order in which images are cut into splits; null where there is one split"
    )


Detector = Annotated[
    Literal["scenes-exact"],
    Field(description="scenes-exact: fits templates to the pictures of a scenes dataset"),
]


class TaskCounts(Strict):
    """How many prompts of each of GenEval's tasks a split asks for, those held out from training apart."""

    single_object: Count
    two_object: Count
    counting: Count
    colors: Count
    position: Count
    color_attr: Count
    held_out: Count = Field(description="prompts of any task whose kind training never asks for")


Prompts = Annotated[
    TaskCounts | None,
    Field(description="in the reference split; other numbers are an error. null: no prompt records"),
]


class ReadingCaptions(Strict):
    """Whether pictures show what their captions ask for, and whether a tokenizer uses the captions that it reads."""

    detector: Detector | None = Field(description="null: the captions come without prompt records")
    prompts: Prompts
    shuffle_seed: Seed = Field(description="of the captions given to other images, as a control")


class PosteriorMean(Strict):
    kind: Literal["mean"]


class PosteriorSample(Strict):
    """A sample of each image of its own, a function of the seed and of the image's number."""

    kind: Literal["sample"]
    seed: Seed


class ReconstructionBenchmark(Reference):
    kind: Literal["reconstruction"]
    posterior: PosteriorMean | PosteriorSample = Field(
        discriminator="kind", description="what of a KL tokenizer's posterior is decoded"
    )
    captions: ReadingCaptions | None


class SampledBenchmark(Reference):
    samples: Annotated[Positive, Field(ge=2)] = Field(description="2 at least: FID needs a covariance")
    eight_bits: EightBits = Field(description="how a sample's values become levels of 8 bits")
    blank_deviation: float = Field(
        ge=0,
        le=255,
        description="a sample is blank where no channel's standard deviation exceeds so many of 255 levels",
    )
    manifold_images: Positive = Field(description="reference images of precision and recall")
    neighbours: Positive


class GenerationBenchmark(SampledBenchmark):
    """Samples of classes, evenly over all of them."""

    kind: Literal["generation"]


class TextToImageBenchmark(SampledBenchmark):
    """Samples of the captions of the reference split, evenly over all of them."""

    kind: Literal["text-to-image"]
    clip: EncoderName = Field(description="of the CLIP score")
    detector: Detector | None = Field(
        description="of geneval; null: the captions come without prompt records"
    )
    prompts: Prompts


Benchmark = Annotated[
    ReconstructionBenchmark | GenerationBenchmark | TextToImageBenchmark, Field(discriminator="kind")
]
