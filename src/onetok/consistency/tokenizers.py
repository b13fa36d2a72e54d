"""Checks of tokenizers and of their token caches."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.consistency.encoders import check_text_encoder
from onetok.consistency.shared import (
    check_captions,
    check_images,
    check_schedule,
    check_trained_on,
    check_training,
)
from onetok.derived import PUBLISHED_TEXT, quantizer_of
from onetok.params import (
    READS_TEXT,
    CachedStates,
    CLIPEncoder,
    InceptionEncoder,
    LPIPSEncoder,
    OpenCLIPEncoder,
    PixelTokenizer,
    PublishedTATiTok,
    PublishedTiTok,
    PublishedVQGAN,
    Stage1Tokenizer,
    Stage2Tokenizer,
    Study,
    TATiTokModel,
    TATiTokTokenizer,
    TiTokTokenizer,
    Tokenizer,
    Tokens,
    TrainedTokenizer,
    VQGANTokenizer,
)


def check_tokenizer(study: Study, tokenizer: Tokenizer) -> Iterator[str]:
    yield from check_images(tokenizer.images)
    size = tokenizer.images.size
    benchmark = study.benchmarks[tokenizer.benchmark]
    if benchmark.kind != "reconstruction":
        yield f"benchmark {tokenizer.benchmark} is of kind {benchmark.kind}, expected reconstruction"
    if benchmark.images.size != size:
        yield f"images.size {size}, but its benchmark's is {benchmark.images.size}"
    if isinstance(tokenizer, READS_TEXT):
        read = PUBLISHED_TEXT if isinstance(tokenizer, PublishedTATiTok) else None
        yield from check_text_encoder(study, "text", tokenizer.text, read)
        yield from check_captions(study, benchmark.dataset)
        if isinstance(tokenizer, TrainedTokenizer):
            yield from check_captions(study, tokenizer.dataset)
    yield from _model(study, tokenizer)
    if isinstance(tokenizer, TrainedTokenizer):
        yield from check_training(tokenizer.training)
        yield from check_trained_on(study, tokenizer.dataset)
        floor = tokenizer.training.codebook_floor
        if floor is not None and quantizer_of(study, tokenizer).kind == "kl":
            yield "training.codebook_floor: a KL tokenizer has no codebook, expected null"
    if isinstance(tokenizer, PixelTokenizer):
        yield from _perceptual(study, tokenizer)
        yield from _adversarial(tokenizer)


def _model(study: Study, tokenizer: Tokenizer) -> Iterator[str]:
    """Check the shapes that make up a tokenizer."""
    size = tokenizer.images.size
    match tokenizer:
        case VQGANTokenizer(model=model) | PublishedVQGAN(model=model):
            if size % model.factor:
                yield f"images.size {size} is not a multiple of {model.factor}, one halving a level"
            if model.width % model.norm_groups:
                yield f"model.norm_groups {model.norm_groups} does not divide model.width {model.width}"
        case TiTokTokenizer(model=model) | TATiTokTokenizer(model=model) | Stage1Tokenizer(model=model):
            for side in ("encoder_patch", "decoder_patch"):
                if size % getattr(model, side):
                    yield f"model.{side} {getattr(model, side)} does not divide images.size {size}"
            torch_start = isinstance(model, TATiTokModel) and model.decoder_linear == "torch"
            if torch_start and (gain := model.init.output_gain) != 1:
                yield f"model.init.output_gain {gain} has no effect with decoder_linear torch, expected 1.0"
        case PublishedTiTok(model=model) | PublishedTATiTok(model=model):
            if size % model.patch:
                yield f"model.patch {model.patch} does not divide images.size {size}"
    if isinstance(tokenizer, Stage1Tokenizer):
        yield from _proxy(study, tokenizer)
    if isinstance(tokenizer, Stage2Tokenizer):
        quantizer_of(study, tokenizer)  # stage 1 is what it should be
        found = study.tokenizers[tokenizer.stage_1].images.size
        if found != size:
            yield f"images.size {size}, but stage 1's is {found}"


def _proxy(study: Study, tokenizer: Stage1Tokenizer) -> Iterator[str]:
    proxy = study.tokenizers[tokenizer.proxy]
    if not isinstance(proxy, VQGANTokenizer | PublishedVQGAN):
        yield f"proxy: {tokenizer.proxy} is of kind {proxy.kind}, expected a VQGAN"
        return
    size, patch = tokenizer.images.size, tokenizer.model.decoder_patch
    if (proxy.images.size, proxy.model.factor) != (size, patch):
        text = (
            f"proxy {tokenizer.proxy} has a code for every {proxy.model.factor} px of {proxy.images.size} px"
        )
        yield f"{text}, expected model.decoder_patch {patch} of images.size {size}"


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
    groups = adversarial.discriminator.groups
    for channels in adversarial.discriminator.stages:
        if channels % groups:
            text = f"losses.adversarial.discriminator.groups {groups}"
            yield f"{text} does not divide a stage of {channels} channels"


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
