"""Params of a whole study, with what every system (onetok.systems) adds to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from onetok.study.schema.base import BenchmarkName, GeneratorName, Positive, RunSeed, Strict
from onetok.study.schema.benchmarks import Benchmark
from onetok.study.schema.datasets import Dataset
from onetok.study.schema.encoders import Encoder
from onetok.study.schema.speeds import Speed
from onetok.study.schema.spreads import Spread
from onetok.study.schema.systems import Generator, Sampling, TextTokenizer, Tokenizer
from onetok.study.schema.tables import Figure, Table
from onetok.study.schema.tokens import Tokens


class TextSampling(Strict):
    """What a generator of captions is told."""

    captions: Literal["own", "shuffled"] = Field(
        description="captions that images are sampled for: the benchmark's own, or shuffled, those of other"
        " images of it, as a control"
    )
    aesthetic: Annotated[float, Field(ge=0, le=10)] | None = Field(
        description="aesthetic score that the generator is told the image shall have; null for generators"
        " that take no score"
    )


class Samples(Strict):
    """Images sampled for a benchmark, which says how many."""

    generator: GeneratorName = Field(
        description="generator that draws the tokens; its tokenizer decodes them"
    )
    benchmark: BenchmarkName = Field(
        description="benchmark that scores the images; it sets their number and, for generators of"
        " captions, the captions"
    )
    seed: RunSeed = Field(description="seed of all images; each is a function of it and of its number")
    micro_batch: Positive = Field(description="images that a process samples in one call")
    sampling: Sampling = Field(description="settings of the generator's sampler")
    text: TextSampling | None = Field(
        description="what a generator of captions is told; null for generators of classes"
    )


class Captions(Strict):
    """Captions of a benchmark's images, each a function of the seed, the image and its number."""

    generator: GeneratorName = Field(description="the generator of captions (image to text)")
    benchmark: BenchmarkName = Field(description="benchmark that has the images and scores the captions")
    seed: RunSeed = Field(description="seed of all captions")
    micro_batch: Positive = Field(description="images that a process captions in one call")
    sampling: Sampling = Field(description="settings of the generator's sampler")


class Study(Strict):
    """All params of a study directory, by kind, then by family/variant."""

    datasets: dict[str, Dataset] = Field(description="images with classes and captions, in splits")
    encoders: dict[str, Encoder] = Field(
        description="networks that look at images and texts for losses and metrics"
    )
    tokenizers: dict[str, Tokenizer] = Field(description="image tokenizers, trained here or released")
    text_tokenizers: dict[str, TextTokenizer] = Field(description="tokenizers of captions, trained here")
    tokens: dict[str, Tokens] = Field(description="splits of datasets, encoded once by a tokenizer")
    generators: dict[str, Generator] = Field(description="generators of tokens, trained here or released")
    samples: dict[str, Samples] = Field(
        description="sets of images, each sampled from a generator for a benchmark"
    )
    captions: dict[str, Captions] = Field(
        description="sets of captions, each generated for the images of a benchmark"
    )
    benchmarks: dict[str, Benchmark] = Field(
        description="what reconstructions and samples are scored against"
    )
    speeds: dict[str, Speed] = Field(description="measurements of speed")
    spreads: dict[str, Spread] = Field(description="further runs of the study, with other seeds; one at most")
    tables: dict[str, Table] = Field(description="tables of scores")
    figures: dict[str, Figure] = Field(description="figures of images and of training curves")

    _pinned: frozenset[str] = PrivateAttr(default=frozenset())  # keys of params/pins.yaml (onetok.study.pins)
