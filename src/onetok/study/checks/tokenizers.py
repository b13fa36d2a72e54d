"""Checks of tokenizers and of their token caches. What only one system has, its own schema checks."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.study.checks.encoders import check_text_encoder, known_text_shape
from onetok.study.checks.shared import (
    check_captions,
    check_chain,
    check_images,
    check_schedule,
    check_trained_on,
    check_training,
)
from onetok.study.schema.architecture import GaussianParams
from onetok.study.schema.encoders import CLIPEncoder, InceptionEncoder, LPIPSEncoder, OpenCLIPEncoder
from onetok.study.schema.shapes import RELEASED_TEXT
from onetok.study.schema.starts import FromTokenizer
from onetok.study.schema.study import Study
from onetok.study.schema.text_tokenizers import TextTokenizerEntry
from onetok.study.schema.tokenizers import (
    PixelTokenizer,
    ReleasedTokenizer,
    TokenizerEntry,
    TrainedTokenizer,
)
from onetok.study.schema.tokens import CachedStates, Tokens


def check_tokenizer(study: Study, tokenizer: TokenizerEntry) -> Iterator[str]:
    yield from check_images(tokenizer.images)
    size = tokenizer.images.size
    benchmark = study.benchmarks[tokenizer.benchmark]
    if benchmark.kind != "reconstruction":
        yield f"benchmark {tokenizer.benchmark} is of kind {benchmark.kind}, expected reconstruction"
    if benchmark.images.size != size:
        yield f"images.size {size}, but its benchmark's is {benchmark.images.size}"
    if tokenizer.text_encoder is not None:
        expected = RELEASED_TEXT if isinstance(tokenizer, ReleasedTokenizer) else None
        yield from check_text_encoder(study, "text", tokenizer.text_encoder, expected)
        yield from check_captions(study, benchmark.dataset)
        if isinstance(tokenizer, TrainedTokenizer):
            yield from check_captions(study, tokenizer.dataset)
    yield from tokenizer.problems(study)
    if isinstance(tokenizer, TrainedTokenizer):
        yield from check_training(tokenizer.training)
        yield from check_trained_on(study, tokenizer.dataset)
        yield from _start(study, tokenizer)
        floor = tokenizer.training.codebook_floor
        if floor is not None and isinstance(tokenizer.quantizer(study), GaussianParams):
            yield "training.codebook_floor: a KL tokenizer has no codebook, expected null"
    if isinstance(tokenizer, PixelTokenizer):
        yield from _perceptual(study, tokenizer)
        yield from _adversarial(tokenizer)


def _start(study: Study, tokenizer: TrainedTokenizer) -> Iterator[str]:
    yield from check_chain(study.tokenizers, tokenizer)
    if isinstance(tokenizer.init_from, FromTokenizer):
        other = study.tokenizers[tokenizer.init_from.name]
        found, expected = (t.token_shape(study) for t in (other, tokenizer))
        if (found, other.images.size) != (expected, tokenizer.images.size):
            sizes = f"{found} of {other.images.size} px, expected {expected} of {tokenizer.images.size} px"
            yield f"init_from: {tokenizer.init_from.name} has tokens {sizes}"


def check_text_tokenizer(study: Study, tokenizer: TextTokenizerEntry) -> Iterator[str]:
    yield from check_text_encoder(study, "text", tokenizer.text)
    shape = known_text_shape(study, tokenizer.text)
    if shape is not None:
        yield from tokenizer.text_problems(shape)
    yield from check_captions(study, tokenizer.dataset)
    yield from check_trained_on(study, tokenizer.dataset)
    yield from check_training(tokenizer.training)


def _perceptual(study: Study, tokenizer: PixelTokenizer) -> Iterator[str]:
    losses = tokenizer.losses
    if not any((losses.l1, losses.l2, *(term.weight for term in losses.perceptual))):
        yield "losses: the weights of l1, l2 and perceptual are 0, so that images would not be rebuilt"
    for index, term in enumerate(tokenizer.losses.perceptual):
        encoder, where = study.encoders[term.encoder], f"losses.perceptual.{index}"
        if isinstance(encoder, InceptionEncoder):
            text = f"{where}.encoder: {term.encoder} is of kind inception"
            yield f"{text}, which rounds images and passes no gradient"
        if isinstance(encoder, CLIPEncoder | OpenCLIPEncoder):
            yield f"{where}.encoder: {term.encoder} is of kind {encoder.kind}, which is no perceptual network"
        elif isinstance(encoder, LPIPSEncoder) != (term.layer == "lpips"):
            yield f"{where}.layer: {term.encoder} of kind {encoder.kind} has no layer {term.layer!r}"


def _adversarial(tokenizer: PixelTokenizer) -> Iterator[str]:
    adversarial = tokenizer.losses.adversarial
    if adversarial is None:
        return
    if adversarial.start >= tokenizer.training.steps:
        text = f"losses.adversarial.start {adversarial.start} is not below training.steps"
        yield f"{text} {tokenizer.training.steps}; without a discriminator, adversarial is null"
        return
    steps, schedule = tokenizer.training.steps - adversarial.start, adversarial.schedule
    yield from check_schedule("losses.adversarial.schedule", schedule, steps)
    if schedule.kind == "cosine" and schedule.steps < steps:
        text = f"losses.adversarial.schedule.steps {schedule.steps} is below the {steps} steps that the"
        yield f"{text} discriminator is trained for: its learning rate would rise again"
    stages, size = adversarial.discriminator.stages, tokenizer.images.size
    if size < 2 ** len(stages):
        text = f"losses.adversarial.discriminator.stages: {len(stages)} cannot halve images.size {size}"
        yield f"{text} that often"


def check_tokens(study: Study, tokens: Tokens) -> Iterator[str]:
    yield from check_images(tokens.images)
    size = study.tokenizers[tokens.tokenizer].images.size
    if tokens.images.size != size:
        yield f"images.size {tokens.images.size} is not the tokenizer's {size}"
    if tokens.split == "train":
        yield from check_trained_on(study, tokens.dataset)
    if tokens.captions is not None:
        yield from check_captions(study, tokens.dataset)
    if isinstance(tokens.captions, CachedStates):
        yield from check_text_encoder(study, "captions.text", tokens.captions.text)
