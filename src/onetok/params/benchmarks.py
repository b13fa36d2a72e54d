"""Params of benchmarks: what images are compared with, and by which networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import DatasetName, EncoderName, Positive, Strict
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


class ReconstructionBenchmark(Reference):
    kind: Literal["reconstruction"]
    inception_splits: Positive


class GenerationBenchmark(Reference):
    kind: Literal["generation"]
    samples: Positive
    inception_splits: Positive
    manifold_images: Positive = Field(description="reference images of precision and recall")
    neighbours: Positive


Benchmark = Annotated[ReconstructionBenchmark | GenerationBenchmark, Field(discriminator="kind")]
