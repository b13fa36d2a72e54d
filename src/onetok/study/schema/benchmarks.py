"""Params of benchmarks: what images are compared with, and by which networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import Count, DatasetName, EncoderName, Positive, Seed, Strict
from onetok.study.schema.datasets import Images
from onetok.study.schema.encoders import WeightsFile

EightBits = Literal["rounded", "truncated"]


class ReferenceSplit(Strict):
    """The split of a dataset that a benchmark is about."""

    dataset: DatasetName = Field(description="dataset that the reference images are from")
    split: Literal["train", "val"] = Field(description="split of that dataset whose images are the reference")
    images: Images = Field(
        description="how a stored image becomes a reference image; reconstruction benchmarks encode the same"
        " image"
    )
    reference_images: Positive = Field(description="images of the split; another number is an error")


class Reference(ReferenceSplit):
    """The images that a benchmark compares with, and the networks that look at them."""

    encoder: EncoderName = Field(
        description="network by whose features and classes images are compared: FID, inception score,"
        " precision and recall, class accuracy"
    )
    second_encoder: EncoderName = Field(
        description="second network, independent of the encoder, by which the same figures are measured"
        " again (metrics with the suffix _second)"
    )
    class_accuracy: bool = Field(
        description="whether class accuracy is measured: both networks must know the dataset's classes"
    )
    batch: Positive = Field(description="images that go through the networks at a time")
    inception_splits: Positive = Field(
        description="parts into which the images are cut for the inception score, which is the mean over the"
        " parts"
    )
    inception_shuffle_seed: Seed | None = Field(
        description="seed of the order in which images are cut into these parts; null where there is one part"
    )


Detector = Annotated[
    Literal["scenes-exact"],
    Field(description="scenes-exact: fits templates to the pictures of a scenes dataset"),
]


class TaskCounts(Strict):
    """How many prompts of each of GenEval's tasks a split asks for, those held out from training apart."""

    single_object: Count = Field(description="prompts that ask for one object")
    two_object: Count = Field(description="prompts that ask for two objects of different classes")
    counting: Count = Field(description="prompts that ask for several objects of one class")
    colors: Count = Field(description="prompts that ask for one object in a colour")
    position: Count = Field(
        description="prompts that ask for one object left of, right of, above or below another"
    )
    color_attr: Count = Field(description="prompts that ask for two objects, each in its own colour")
    held_out: Count = Field(description="prompts of any task whose kind training never asks for")


Prompts = Annotated[
    TaskCounts | None,
    Field(
        description="prompts of each task in the reference split; other numbers are an error. null: the"
        " captions come without prompt records"
    ),
]


class ReadingCaptions(Strict):
    """Whether pictures show what their captions ask for, and whether a tokenizer uses the captions that it reads."""

    detector: Detector | None = Field(
        description="detector that says for GenEval what a reconstruction shows; null: the captions come"
        " without prompt records"
    )
    prompts: Prompts
    shuffle_seed: Seed = Field(
        description="seed that decides which other image's caption an image gets, as a control"
    )


class PosteriorMean(Strict):
    """The mean of each image's posterior."""

    kind: Literal["mean"]


class PosteriorSample(Strict):
    """A sample of each image's posterior, a function of the seed and of the image's number."""

    kind: Literal["sample"]
    seed: Seed = Field(description="seed of the noise of every image")


class ReconstructionBenchmark(Reference):
    """Reconstructions of the images of a split, which are themselves the reference."""

    kind: Literal["reconstruction"]
    posterior: PosteriorMean | PosteriorSample = Field(
        discriminator="kind", description="what of a KL tokenizer's posterior is decoded"
    )
    captions: ReadingCaptions | None = Field(
        description="how the use of captions is measured; null: it is not"
    )


class SampledBenchmark(Reference):
    """What benchmarks of generated samples have in common."""

    samples: Annotated[Positive, Field(ge=2)] = Field(
        description="images that are sampled and scored; 2 at least: FID needs a covariance"
    )
    eight_bits: EightBits = Field(
        description="how a sample's values become levels of 8 bits; truncated ones are half a level darker"
    )
    blank_deviation: float = Field(
        ge=0,
        le=255,
        description="a sample is blank where no channel's standard deviation exceeds so many of 255 levels",
    )
    manifold_images: Positive = Field(
        description="reference images that precision and recall take, spread evenly over all of them"
    )
    neighbours: Positive = Field(
        description="number of nearest neighbours, k, that defines the manifolds of precision and recall"
    )


class GenerationBenchmark(SampledBenchmark):
    """Samples of classes, evenly over all of them."""

    kind: Literal["generation"]
    statistics: WeightsFile | None = Field(
        description="statistics of reference images as the ADM evaluator publishes them, an .npz with mu and sigma"
        " (and mu_s, sigma_s for sFID), or images, arr_0, or both; then they are the reference, and the dataset gives"
        " the classes alone. null: the reference is measured on the dataset's split"
    )


class TextToImageBenchmark(SampledBenchmark):
    """Samples of the captions of the reference split, evenly over all of them."""

    kind: Literal["text-to-image"]
    clip: EncoderName = Field(description="CLIP that measures the CLIP score of samples and their captions")
    detector: Detector | None = Field(
        description="detector that says for GenEval what a sample shows; null: the captions come without"
        " prompt records"
    )
    prompts: Prompts


class CaptionBenchmark(ReferenceSplit):
    """Generated captions of the images of a split, against the captions that the dataset has of them."""

    kind: Literal["captions"]
    exact: Literal["scenes"] | None = Field(
        description="scenes: a caption is parsed, and all that it says is compared with what the scene shows; null:"
        " only for other datasets"
    )
    java: bool = Field(
        description="whether METEOR and SPICE are computed, whose programs need Java: null scores where it is not"
        " installed"
    )
    random_seed: Seed = Field(
        description="seed of captions that are drawn at random from the train split and scored too, as a control"
    )


Benchmark = Annotated[
    ReconstructionBenchmark | GenerationBenchmark | TextToImageBenchmark | CaptionBenchmark,
    Field(discriminator="kind"),
]
