"""Checks of generators and of how they sample."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.consistency.encoders import check_text_encoder
from onetok.consistency.shared import check_training
from onetok.derived import PUBLISHED_TEXT, pretrained_of, quantizer_of, tokenizer_of
from onetok.params import (
    READS_CAPTIONS,
    READS_TEXT,
    CachedStates,
    ClassGenerator,
    FineTunedGenerator,
    GenerationBenchmark,
    Generator,
    MaskGenKLGenerator,
    MaskGITUViTGenerator,
    PublishedMaskGenKL,
    PublishedMaskGITUViT,
    PublishedRAR,
    PublishedTextGenerator,
    RARGenerator,
    Samples,
    Study,
    TextGenerator,
    TrainedGenerator,
)


def check_generator(study: Study, generator: Generator) -> Iterator[str]:
    source = pretrained_of(study, generator) if isinstance(generator, FineTunedGenerator) else generator
    model = source.model
    if model.width % model.heads:
        yield f"model.width {model.width} is not a multiple of heads {model.heads}"
    if isinstance(generator, MaskGITUViTGenerator | PublishedMaskGITUViT) and model.layers % 2:
        yield f"model.layers {model.layers} cannot be halved, as a U-ViT's"
    name = tokenizer_of(study, generator)
    read = f"tokenizer: the tokens of {name} are"
    if isinstance(generator, TrainedGenerator):
        read = f"tokens: {generator.tokens} are"
        yield from check_training(generator.training)
    continuous = isinstance(source, MaskGenKLGenerator | PublishedMaskGenKL)
    if (quantizer_of(study, study.tokenizers[name]).kind == "kl") != continuous:
        found, expected = ("of a codebook", "continuous ones")
        if not continuous:
            found, expected = ("continuous", "ones of a codebook")
        yield f"{read} {found} ({name}), expected {expected}"
    if isinstance(generator, READS_CAPTIONS):
        yield from _text_generator(study, generator)
        return
    if isinstance(study.tokenizers[name], READS_TEXT):
        yield f"{read} decoded with captions ({name}), which a generator of classes has not"
    if isinstance(generator, ClassGenerator):
        yield from _class_generator(study, generator)


def _class_generator(study: Study, generator: ClassGenerator) -> Iterator[str]:
    if isinstance(generator, RARGenerator) and generator.annealing.end < generator.annealing.start:
        yield f"annealing.end {generator.annealing.end} is before its start {generator.annealing.start}"
    classes = study.datasets[study.tokens[generator.tokens].dataset].classes
    if generator.classes != classes:
        yield f"classes {generator.classes}, but the dataset has {classes}"


def _text_generator(study: Study, generator: TextGenerator | PublishedTextGenerator) -> Iterator[str]:
    read = PUBLISHED_TEXT if isinstance(generator, PublishedTextGenerator) else None
    yield from check_text_encoder(study, "text", generator.text, read)
    if isinstance(generator, TextGenerator):
        captions = study.tokens[generator.tokens].captions
        if captions is None:
            yield f"tokens: {generator.tokens} are kept without captions (its captions is null)"
        if isinstance(captions, CachedStates) and captions.text != generator.text:
            text = f"text: {generator.text}, but {generator.tokens} keeps states of {captions.text}"
            yield text
    if isinstance(generator, FineTunedGenerator):
        pretrained = pretrained_of(study, generator)
        found, expected = tokenizer_of(study, generator), tokenizer_of(study, pretrained)
        if found != expected:
            yield f"tokens: of {found}, but {generator.pretrained} was trained on tokens of {expected}"
        if generator.text != pretrained.text:
            yield f"text: {generator.text}, but {generator.pretrained} reads {pretrained.text}"


def check_samples(study: Study, samples: Samples) -> Iterator[str]:
    benchmark = study.benchmarks[samples.benchmark]
    generator = study.generators[samples.generator]
    expected = _sampling_of(study, generator)
    if samples.sampling.kind != expected:
        text = f"sampling is of kind {samples.sampling.kind}"
        yield f"{text}, but {samples.generator} of kind {generator.kind} needs {expected}"
    reads = isinstance(generator, READS_CAPTIONS)
    if (samples.text is not None) != reads:
        text = (
            "reads captions, expected captions and aesthetic" if reads else "reads no captions, expected null"
        )
        yield f"text: {samples.generator} {text}"
    kind = "text-to-image" if reads else "generation"
    if benchmark.kind != kind:
        yield f"benchmark {samples.benchmark} is of kind {benchmark.kind}, expected {kind}"
    elif isinstance(benchmark, GenerationBenchmark) and not isinstance(generator, READS_CAPTIONS):
        yield from _classes(study, samples, benchmark, generator.classes)


def _sampling_of(study: Study, generator: Generator) -> str:
    """Return the kind of sampling that a generator needs."""
    if isinstance(generator, FineTunedGenerator):
        generator = pretrained_of(study, generator)
    match generator:
        case RARGenerator() | PublishedRAR():
            return "autoregressive"
        case MaskGenKLGenerator() | PublishedMaskGenKL():
            return "latents"
    return "masked"


def _classes(study: Study, samples: Samples, benchmark: GenerationBenchmark, classes: int) -> Iterator[str]:
    found = study.datasets[benchmark.dataset].classes
    if found != classes:
        yield f"generator {samples.generator} has {classes} classes, but the benchmark's dataset has {found}"
    elif benchmark.samples % classes:
        yield f"the benchmark's {benchmark.samples} samples cannot be spread evenly over {classes} classes"
