"""Checks of generators and of their samples. What only one system has, its own schema checks."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.study.checks.encoders import check_text_encoder, known_text_shape
from onetok.study.checks.shared import check_chain, check_training
from onetok.study.schema.benchmarks import GenerationBenchmark
from onetok.study.schema.generators import (
    CaptionEntry,
    ClassEntry,
    GeneratorEntry,
    ReleasedGenerator,
    TrainedCaptionGenerator,
    TrainedGenerator,
)
from onetok.study.schema.shapes import RELEASED_TEXT
from onetok.study.schema.starts import FromGenerator
from onetok.study.schema.study import Captions, Samples, Study, TextSampling
from onetok.study.schema.tokens import CachedStates


def check_generator(study: Study, generator: GeneratorEntry) -> Iterator[str]:
    first = generator.first_stage(study)
    yield from generator.problems(study)
    name = generator.tokenizer_name(study)
    tokens = f"tokenizer: the tokens of {name} are"
    if isinstance(generator, TrainedGenerator):
        tokens = f"tokens: {generator.tokens} are"
        yield from check_training(generator.training)
        yield from check_chain(study.generators, generator)
        if isinstance(generator.init_from, FromGenerator):
            other = study.generators[generator.init_from.name].tokenizer_name(study)
            theirs, ours = (study.tokenizers[t].token_shape(study) for t in (other, name))
            if theirs != ours:
                yield f"init_from: {generator.init_from.name} has tokens {theirs}, expected {ours}"
    continuous = study.tokenizers[name].token_shape(study).codebook_size is None
    if continuous != first.continuous:
        found, expected = "of a codebook", "continuous ones"
        if continuous:
            found, expected = "continuous", "ones of a codebook"
        yield f"{tokens} {found} ({name}), expected {expected}"
    if isinstance(generator, CaptionEntry):
        yield from _of_captions(study, generator)
    if isinstance(generator, ClassEntry):
        if study.tokenizers[name].text_encoder is not None:
            yield f"{tokens} decoded with captions ({name}), which a generator of classes has not"
        if isinstance(generator, TrainedGenerator):
            classes = study.datasets[study.tokens[generator.tokens].dataset].classes
            if generator.classes != classes:
                yield f"classes {generator.classes}, but the dataset has {classes}"


def _of_captions(study: Study, generator: CaptionEntry) -> Iterator[str]:
    expected = RELEASED_TEXT if isinstance(generator, ReleasedGenerator) else None
    yield from check_text_encoder(study, "text", generator.text, expected)
    shape = expected or known_text_shape(study, generator.text)
    if shape is not None:
        tokens = study.tokenizers[generator.tokenizer_name(study)].token_count(study)
        yield from generator.text_problems(shape, tokens)
    if isinstance(generator, TrainedCaptionGenerator):
        captions = study.tokens[generator.tokens].captions
        if captions is None:
            yield f"tokens: {generator.tokens} are kept without captions (its captions is null)"
        if isinstance(captions, CachedStates):
            if captions.text != generator.text:
                yield f"text: {generator.text}, but {generator.tokens} keeps states of {captions.text}"
            if generator.text_layer != "penultimate":
                text = f"tokens: {generator.tokens} keeps the states that enter the encoder's last block"
                yield f"{text}, but {generator.kind} reads the final ones; expected captions of kind text"


def check_samples(study: Study, samples: Samples) -> Iterator[str]:
    benchmark = study.benchmarks[samples.benchmark]
    generator = study.generators[samples.generator]
    yield from _sampling(study, samples)
    if generator.reads == "images":
        yield f"generator: {samples.generator} makes captions of images; params of these are `captions`"
        return
    reads = generator.reads == "captions"
    if (samples.text is not None) != reads:
        text = (
            "reads captions, expected captions and aesthetic" if reads else "reads no captions, expected null"
        )
        yield f"text: {samples.generator} {text}"
    elif samples.text is not None and isinstance(generator, CaptionEntry):
        yield from _aesthetic(samples, samples.text, generator)
    kind = "text-to-image" if reads else "generation"
    if benchmark.kind != kind:
        yield f"benchmark {samples.benchmark} is of kind {benchmark.kind}, expected {kind}"
    elif isinstance(benchmark, GenerationBenchmark) and isinstance(generator, ClassEntry):
        yield from _classes(study, samples, benchmark, generator.classes)


def check_generated_captions(study: Study, captions: Captions) -> Iterator[str]:
    generator, benchmark = study.generators[captions.generator], study.benchmarks[captions.benchmark]
    yield from _sampling(study, captions)
    if generator.reads != "images":
        yield f"generator: {captions.generator} of kind {generator.kind} makes images, expected one that makes captions"
        return
    if benchmark.kind != "captions":
        yield f"benchmark {captions.benchmark} is of kind {benchmark.kind}, expected captions"
    size = study.tokenizers[generator.tokenizer_name(study)].images.size
    if benchmark.images.size != size:
        yield f"benchmark {captions.benchmark} has images of {benchmark.images.size} px, the tokenizer's have {size}"


def _sampling(study: Study, entry: Samples | Captions) -> Iterator[str]:
    generator = study.generators[entry.generator]
    expected = generator.first_stage(study).sampling_kind
    if entry.sampling.kind != expected:
        text = f"sampling is of kind {entry.sampling.kind}"
        yield f"{text}, but {entry.generator} of kind {generator.kind} needs {expected}"


def _aesthetic(samples: Samples, text: TextSampling, generator: CaptionEntry) -> Iterator[str]:
    if (text.aesthetic is not None) != generator.reads_aesthetic:
        reads = "a score, found null" if generator.reads_aesthetic else "no score, expected null"
        yield f"text.aesthetic: {samples.generator} reads {reads}"


def _classes(study: Study, samples: Samples, benchmark: GenerationBenchmark, classes: int) -> Iterator[str]:
    found = study.datasets[benchmark.dataset].classes
    if found != classes:
        yield f"generator {samples.generator} has {classes} classes, but the benchmark's dataset has {found}"
    elif benchmark.samples % classes:
        yield f"the benchmark's {benchmark.samples} samples cannot be spread evenly over {classes} classes"
