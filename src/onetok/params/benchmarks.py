"""Params of benchmarks: what images are compared with, and by which networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import DatasetName, EncoderName, Positive, Seed, Strict
from onetok.params.datasets import Images


class Reference(Strict):
    """The images that a benchmark compares with, and the networks that look at them."""

    dataset: DatasetName
    split: Literal["train", "val"]
    images: Images
    encoder: EncoderName
    judge: EncoderName = Field(description="independent of the encoder; its figures are marked")
    class_accuracy: bool = Field(description="whether the encoder's classes are the dataset's")
    batch: Positive


Detector = Annotated[
    Literal["scenes-exact"],
    Field(description="scenes-exact: fits templates to the pictures of a scenes dataset"),
]


class ReadingCaptions(Strict):
    """Whether pictures show what their captions ask for, and whether a tokenizer uses the captions that it reads."""

    detector: Detector | None = Field(description="null: the captions come without prompt records")
    shuffle_seed: Seed = Field(description="of the captions given to other images, as a control")


class ReconstructionBenchmark(Reference):
    kind: Literal["reconstruction"]
    inception_splits: Positive
    captions: ReadingCaptions | None


class SampledBenchmark(Reference):
    samples: Annotated[Positive, Field(ge=2)] = Field(description="2 at least: FID needs a covariance")
    inception_splits: Positive
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


Benchmark = Annotated[
    ReconstructionBenchmark | GenerationBenchmark | TextToImageBenchmark, Field(discriminator="kind")
]
