"""Values of params that are fine alone and cannot hold together: checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args

from onetok.data.scenes import requests as scene_requests
from onetok.errors import OnetokError, nearest
from onetok.metrics import names
from onetok.params import (
    CLASSIFIER_GROUPS,
    READS_CAPTIONS,
    READS_TEXT,
    Benchmark,
    CachedStates,
    ClassGenerator,
    ClassifierEncoder,
    CLIPEncoder,
    Dataset,
    DigitsSource,
    Encoder,
    EvaluationOnly,
    FineTunedGenerator,
    GenerationBenchmark,
    Generator,
    ImageFolderSource,
    Images,
    InceptionEncoder,
    LPIPSEncoder,
    MaskGenKLGenerator,
    MaskGenVQGenerator,
    MaskGITUViTGenerator,
    OpenCLIPEncoder,
    Pair,
    PairSpeed,
    PixelTokenizer,
    PublishedGenerator,
    PublishedMaskGenKL,
    PublishedMaskGITUViT,
    PublishedRAR,
    PublishedTATiTok,
    PublishedTextGenerator,
    PublishedTiTok,
    PublishedVQGAN,
    Quantizer,
    RARGenerator,
    ReconstructionBenchmark,
    Samples,
    SceneShape,
    ScenesSource,
    Speed,
    SplitScenes,
    Stage1Tokenizer,
    Stage2Tokenizer,
    Study,
    Table,
    TATiTokModel,
    TATiTokTokenizer,
    TextGenerator,
    TextToImageBenchmark,
    TiTokTokenizer,
    Tokenizer,
    TokenizerSpeed,
    Tokens,
    TrainedGenerator,
    TrainedTokenizer,
    Training,
    UnreleasedSystem,
    VQGANTokenizer,
)

IMAGENET_CLASSES = 1000
SCENE_SHAPES = get_args(SceneShape)


def inconsistencies(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, what is wrong)."""
    for kind, check in CHECKS.items():
        for name, entry in getattr(study, kind).items():
            try:
                for text in check(study, entry):
                    yield kind, name, text
            except OnetokError as error:  # nothing further can be said of this entry
                yield kind, name, str(error)


def _dataset(study: Study, dataset: Dataset) -> Iterator[str]:
    source = dataset.source
    if isinstance(source, ScenesSource):
        yield from _scenes(source, dataset)
        return
    if source.caption is not None and "{class}" not in source.caption:
        yield f"source.caption: {source.caption!r} lacks {{class}}; without captions, it is null"
    imagenet = isinstance(source, ImageFolderSource) and source.class_names == "imagenet"
    if imagenet and dataset.classes != IMAGENET_CLASSES:
        yield f"source.class_names: imagenet needs {IMAGENET_CLASSES} classes, found {dataset.classes}"


def _scenes(source: ScenesSource, dataset: Dataset) -> Iterator[str]:
    classes = len(SCENE_SHAPES) * len(source.colors)
    if dataset.classes != classes:
        yield f"classes {dataset.classes}, expected {classes}: one for each shape in each of source.colors"
    if len(set(source.colors)) < len(source.colors):
        yield f"source.colors: {', '.join(source.colors)} names a colour twice"
    (least, most), cell = source.sides, source.size / 2
    if source.size % 2 or least > most or most + 2 * source.jitter > cell:
        yield f"source: sides {least} to {most} and jitter {source.jitter} do not fit a cell of {cell:g} pixels"
    if not 0 < source.vividness[0] <= source.vividness[1]:
        yield f"source.vividness: found {list(source.vividness)}, expected two rising numbers above 0"
    for color, shape in source.held_out_colors:
        if color not in source.colors:
            yield f"source.held_out_colors: {color} {shape} is of no colour in source.colors"
    if source.evaluation_share > 0.5:
        share = f"source.evaluation_share: found {source.evaluation_share:g}"
        yield f"{share}, expected at most 0.5: of a request and its mirror one is for training"
    undrawn = [
        s for s in SCENE_SHAPES if all((color, s) in source.held_out_colors for color in source.colors)
    ]
    for shape in undrawn:
        yield f"source.held_out_colors: holds out {shape} in every colour"
    if not undrawn:
        yield from _requests(source, dataset)


def _requests(source: ScenesSource, dataset: Dataset) -> Iterator[str]:
    """Check that there is something to ask for in every split."""
    every = scene_requests(source)
    for split, tasks in (("training", every.train), ("evaluation", every.val)):
        for task in (task for task, left in tasks.items() if not left):
            named = "evaluation_share, held_out_colors, held_out_relations"
            yield f"source: leaves nothing of {task} to ask for in {split} ({named})"
    if isinstance(dataset.split, SplitScenes) and dataset.split.held_out and not every.held_out:
        yield f"split.held_out {dataset.split.held_out}, but source holds out nothing"


def _encoder(study: Study, encoder: Encoder) -> Iterator[str]:
    if isinstance(encoder, ClassifierEncoder | CLIPEncoder):
        yield from _training(encoder.training)
        yield from _images(encoder.images)
        yield from _trained_on(study, encoder.dataset)
    if isinstance(encoder, CLIPEncoder):
        yield from _clip(study, encoder)
    if isinstance(encoder, ClassifierEncoder):
        yield from _classifier(encoder)
    if isinstance(encoder, OpenCLIPEncoder) and encoder.architecture not in (known := _architectures()):
        text = f"architecture: open_clip has none named {encoder.architecture!r}"
        yield f"{text}; {nearest(encoder.architecture, known)}"


def _trained_on(study: Study, dataset: str) -> Iterator[str]:
    if isinstance(study.datasets[dataset].split, EvaluationOnly):
        yield f"dataset: {dataset} is for evaluation alone (its split), found a use of its train split"


def _architectures() -> dict[str, Path]:
    """Return open_clip's configurations by their names, without open_clip, which takes seconds to import."""
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    return {path.stem: path for path in (Path(package.origin).parent / "model_configs").glob("*.json")}


def _clip(study: Study, encoder: CLIPEncoder) -> Iterator[str]:
    yield from _captions(study, encoder.dataset)
    model = encoder.model
    if encoder.images.size % model.patch_size:
        yield f"model.patch_size {model.patch_size} does not divide images.size {encoder.images.size}"
    if model.vision_width % model.vision_head_width:
        width = model.vision_head_width
        yield f"model.vision_width {model.vision_width} is not a multiple of vision_head_width {width}"
    if model.text_width % model.text_heads:
        yield f"model.text_width {model.text_width} is not a multiple of text_heads {model.text_heads}"
    if model.context_length < 3:
        yield f"model.context_length {model.context_length} leaves no place between both ends, expected 3 or more"


def _captions(study: Study, dataset: str) -> Iterator[str]:
    source = study.datasets[dataset].source
    if isinstance(source, DigitsSource) and source.caption is None:
        yield f"dataset: {dataset} has no captions (its source.caption is null)"


def _classifier(encoder: ClassifierEncoder) -> Iterator[str]:
    for channels in encoder.model.channels:
        if channels % CLASSIFIER_GROUPS:
            yield f"model.channels: {channels} is not a multiple of the {CLASSIFIER_GROUPS} norm groups"


def _tokenizer(study: Study, tokenizer: Tokenizer) -> Iterator[str]:
    yield from _images(tokenizer.images)
    size = tokenizer.images.size
    benchmark = study.benchmarks[tokenizer.benchmark]
    if benchmark.kind != "reconstruction":
        yield f"benchmark {tokenizer.benchmark} is of kind {benchmark.kind}, expected reconstruction"
    if benchmark.images.size != size:
        yield f"images.size {size}, but its benchmark's is {benchmark.images.size}"
    if isinstance(tokenizer, READS_TEXT):
        read = PUBLISHED_TEXT if isinstance(tokenizer, PublishedTATiTok) else None
        yield from _text_encoder(study, "text", tokenizer.text, read)
        yield from _captions(study, benchmark.dataset)
        if isinstance(tokenizer, TrainedTokenizer):
            yield from _captions(study, tokenizer.dataset)
    yield from _model(study, tokenizer)
    if isinstance(tokenizer, TrainedTokenizer):
        yield from _training(tokenizer.training)
        yield from _trained_on(study, tokenizer.dataset)
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


def quantizer_of(study: Study, tokenizer: Tokenizer) -> Quantizer:
    """Return the quantizer of a tokenizer, that of stage 1 for stage 2.

    Raises OnetokError where stage 2 follows something else.
    """
    if isinstance(tokenizer, Stage2Tokenizer):
        stage_1 = study.tokenizers[tokenizer.stage_1]
        if not isinstance(stage_1, Stage1Tokenizer):
            raise OnetokError(
                f"stage_1: {tokenizer.stage_1} is of kind {stage_1.kind}, expected titok-stage-1"
            )
        return stage_1.model.quantizer
    return tokenizer.model.quantizer


class TextShape(NamedTuple):
    """What a text encoder makes of a caption."""

    length: int  # states
    width: int
    pooled_width: int

    def __str__(self) -> str:
        return f"{self.length} states of width {self.width}, {self.pooled_width} pooled"


PUBLISHED_TEXT = TextShape(77, 768, 768)  # of ViT-L/14-336, which every released system reads


class TokenShape(NamedTuple):
    """What the tokens of an image are."""

    codebook_size: int | None  # None where they are continuous
    channels: int
    length: int  # tokens an image


def token_shape(study: Study, tokenizer: Tokenizer) -> TokenShape:
    quantizer = quantizer_of(study, tokenizer)
    size = quantizer.codebook_size if quantizer.kind == "vq" else None
    if isinstance(tokenizer, Stage2Tokenizer):
        return token_shape(study, study.tokenizers[tokenizer.stage_1])
    if isinstance(tokenizer, VQGANTokenizer | PublishedVQGAN):
        length = (tokenizer.images.size // tokenizer.model.factor) ** 2
    else:
        length = tokenizer.model.tokens
    return TokenShape(size, quantizer.channels, length)


def _perceptual(study: Study, tokenizer: PixelTokenizer) -> Iterator[str]:
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
    groups = adversarial.discriminator.groups
    for channels in adversarial.discriminator.stages:
        if channels % groups:
            text = f"losses.adversarial.discriminator.groups {groups}"
            yield f"{text} does not divide a stage of {channels} channels"


def _tokens(study: Study, tokens: Tokens) -> Iterator[str]:
    yield from _images(tokens.images)
    size = study.tokenizers[tokens.tokenizer].images.size
    if tokens.images.size != size:
        yield f"images.size {tokens.images.size} is not the tokenizer's {size}"
    if tokens.split == "train":
        yield from _trained_on(study, tokens.dataset)
    if tokens.captions is not None:
        yield from _captions(study, tokens.dataset)
    if isinstance(tokens.captions, CachedStates):
        yield from _text_encoder(study, "captions.text", tokens.captions.text)


def _text_encoder(study: Study, where: str, name: str, expected: TextShape | None = None) -> Iterator[str]:
    """Check that an encoder reads captions and, where something needs one, the shape of its states."""
    encoder = study.encoders[name]
    if not isinstance(encoder, CLIPEncoder | OpenCLIPEncoder):
        yield f"{where}: {name} is of kind {encoder.kind}, expected a text encoder"
    elif expected is not None and (found := _text_shape(encoder)) not in (None, expected):
        yield f"{where}: {name} gives {found}, expected {expected}"


def _text_shape(encoder: CLIPEncoder | OpenCLIPEncoder) -> TextShape | None:
    """Return the shape of an encoder's states, None where open_clip's file of it leaves that to open_clip's code."""
    if isinstance(encoder, CLIPEncoder):
        return TextShape(encoder.model.context_length, encoder.model.text_width, encoder.model.embedding)
    if encoder.architecture not in (known := _architectures()):
        return None  # which is said of the encoder
    released = json.loads(known[encoder.architecture].read_text())
    sizes = (*(released["text_cfg"].get(key) for key in ("context_length", "width")), released["embed_dim"])
    return None if None in sizes else TextShape(*sizes)


# ---------------------------------------------------------------------------------------------- generators


def tokenizer_of(study: Study, generator: TrainedGenerator | PublishedGenerator) -> str:
    """Return the name of the tokenizer whose tokens a generator draws."""
    if isinstance(generator, TrainedGenerator):
        return study.tokens[generator.tokens].tokenizer
    return generator.tokenizer


def pretrained_of(study: Study, generator: FineTunedGenerator) -> MaskGenVQGenerator | MaskGenKLGenerator:
    """Return the generator that another one starts from.

    Raises OnetokError where it starts from something that is no first stage.
    """
    found = study.generators[generator.pretrained]
    if not isinstance(found, MaskGenVQGenerator | MaskGenKLGenerator):
        text = f"pretrained: {generator.pretrained} is of kind {found.kind}"
        raise OnetokError(f"{text}, expected maskgen-vq or maskgen-kl")
    return found


def _generator(study: Study, generator: Generator) -> Iterator[str]:
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
        yield from _training(generator.training)
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
    yield from _text_encoder(study, "text", generator.text, read)
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


def _samples(study: Study, samples: Samples) -> Iterator[str]:
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


def _classes(study: Study, samples: Samples, benchmark: GenerationBenchmark, classes: int) -> Iterator[str]:
    found = study.datasets[benchmark.dataset].classes
    if found != classes:
        yield f"generator {samples.generator} has {classes} classes, but the benchmark's dataset has {found}"
    elif benchmark.samples % classes:
        yield f"the benchmark's {benchmark.samples} samples cannot be spread evenly over {classes} classes"


def _benchmark(study: Study, benchmark: Benchmark) -> Iterator[str]:
    yield from _images(benchmark.images)
    if benchmark.split == "train":
        yield from _trained_on(study, benchmark.dataset)
    for role, name in (("encoder", benchmark.encoder), ("judge", benchmark.judge)):
        encoder = study.encoders[name]
        if isinstance(encoder, LPIPSEncoder):
            yield f"{role}: {name} is of kind lpips, which has no features"
        if isinstance(encoder, CLIPEncoder | OpenCLIPEncoder):
            yield f"{role}: {name} is of kind {encoder.kind}, which has no classes"
        if isinstance(encoder, InceptionEncoder) and benchmark.class_accuracy:
            yield f"class_accuracy: the classes of {role} {name} are not the dataset's"
    if isinstance(benchmark, TextToImageBenchmark):
        yield from _captions(study, benchmark.dataset)
        yield from _text_encoder(study, "clip", benchmark.clip)
        yield from _detector(study, benchmark, benchmark.detector)
    if isinstance(benchmark, ReconstructionBenchmark) and benchmark.captions is not None:
        yield from _captions(study, benchmark.dataset)
        yield from _detector(study, benchmark, benchmark.captions.detector)


def _detector(study: Study, benchmark: Benchmark, detector: str | None) -> Iterator[str]:
    kind = study.datasets[benchmark.dataset].source.kind
    if detector == "scenes-exact" and kind != "scenes":
        yield f"detector scenes-exact: {benchmark.dataset} is of kind {kind}, expected scenes"


def _table(study: Study, table: Table) -> Iterator[str]:
    for index, row in enumerate(table.rows):
        if row.tokenizer and row.samples:
            yield f"rows.{index}: names a tokenizer and samples, expected at most one"
    measured = [names.RECONSTRUCTION] * any(row.tokenizer for row in table.rows)
    measured += [names.GENERATION] * any(row.samples for row in table.rows)
    for index, column in enumerate(table.columns):
        for known in measured or [names.ALL]:
            if column.metric not in known:
                text = f"columns.{index}.metric: no metric named {column.metric!r}"
                yield f"{text}; {nearest(column.metric, known)}"


def _speed(study: Study, speed: Speed) -> Iterator[str]:
    if isinstance(speed, TokenizerSpeed):
        for name in speed.tokenizers:
            yield from _untrained(study, "tokenizers", name)
    if isinstance(speed, PairSpeed):
        for index, pair in enumerate(speed.pairs):
            for text in _pair(study, pair):
                yield f"pairs.{index}.{text}"


def _untrained(study: Study, where: str, name: str) -> Iterator[str]:
    kind = study.tokenizers[name].kind
    if kind in ("tatitok", "titok-stage-1", "titok-stage-2"):
        yield f"{where}: {name} of kind {kind} cannot be built without what it is trained from"


def _pair(study: Study, pair: Pair) -> Iterator[str]:
    system, diffusion = pair.system, pair.diffusion
    if isinstance(system, UnreleasedSystem):
        if system.size % system.tokenizer.patch:
            yield f"system.tokenizer.patch {system.tokenizer.patch} does not divide size {system.size}"
        if system.tokenizer.quantizer.kind != "vq":
            yield "system.tokenizer.quantizer: continuous tokens, expected those of a codebook"
        model = system.generator.model
        if model.width % model.heads:
            yield f"system.generator.model.width {model.width} is not a multiple of heads {model.heads}"
    else:
        generator = study.generators[study.samples[system.samples].generator]
        yield from _untrained(study, "system.samples", tokenizer_of(study, generator))
    if diffusion.latent % diffusion.patch:
        yield f"diffusion.patch {diffusion.patch} does not divide latent {diffusion.latent}"
    if diffusion.width % diffusion.heads:
        yield f"diffusion.width {diffusion.width} is not a multiple of heads {diffusion.heads}"


def _training(training: Training) -> Iterator[str]:
    if training.batch % training.accumulation:
        yield f"training.batch {training.batch} is not a multiple of accumulation {training.accumulation}"
    if training.checkpoint_every % training.log_every:
        # A row of scalars must not straddle a checkpoint of an interrupted run.
        text = f"training.checkpoint_every {training.checkpoint_every} is not a multiple of log_every"
        yield f"{text} {training.log_every}"


def _images(images: Images) -> Iterator[str]:
    if images.shorter_edge < images.size:
        yield f"images.shorter_edge {images.shorter_edge} is below images.size {images.size}"


CHECKS: dict[str, Any] = {
    "datasets": _dataset,
    "encoders": _encoder,
    "tokenizers": _tokenizer,
    "tokens": _tokens,
    "generators": _generator,
    "samples": _samples,
    "benchmarks": _benchmark,
    "tables": _table,
    "speeds": _speed,
}
