"""What follows from params alone: what something builds on, and the shapes of tokens and texts."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, get_args

from onetok.errors import OnetokError
from onetok.params import (
    CLIPEncoder,
    Dataset,
    DigitsSource,
    FineTunedGenerator,
    HoldOut,
    MaskGenKLGenerator,
    MaskGenVQGenerator,
    OpenCLIPEncoder,
    PublishedGenerator,
    PublishedVQGAN,
    Quantizer,
    SplitScenes,
    Stage1Tokenizer,
    Stage2Tokenizer,
    Study,
    Task,
    Tokenizer,
    TrainedGenerator,
    VQGANTokenizer,
)


class TextShape(NamedTuple):
    """What a text encoder makes of a caption."""

    length: int  # states
    width: int
    pooled_width: int

    def __str__(self) -> str:
        return f"{self.length} states of width {self.width}, {self.pooled_width} pooled"


PUBLISHED_TEXT = TextShape(77, 768, 768)  # of ViT-L/14-336, which every released system reads


@cache
def open_clip_configs() -> dict[str, Path]:
    """Return open_clip's architectures, name to file, without open_clip itself, which takes seconds to import."""
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    return {path.stem: path for path in (Path(package.origin).parent / "model_configs").glob("*.json")}


def text_shape(study: Study, encoder: str) -> TextShape:
    """Return the shape of a text encoder's states.

    Raises OnetokError for an architecture of open_clip whose text tower is none of open_clip's own.
    """
    entry = study.encoders[encoder]
    if isinstance(entry, CLIPEncoder):
        return TextShape(entry.model.context_length, entry.model.text_width, entry.model.embedding)
    assert isinstance(entry, OpenCLIPEncoder)
    released = json.loads(open_clip_configs()[entry.architecture].read_text(encoding="utf-8"))
    tower = released["text_cfg"]
    if not {"context_length", "width"} <= tower.keys():
        raise OnetokError(
            f"{encoder}: {entry.architecture!r} is not the original CLIP's pair of transformers"
        )
    return TextShape(tower["context_length"], tower["width"], released["embed_dim"])


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


DIGITS = 1797  # images that scikit-learn ships


def images_of(dataset: Dataset, split: str) -> int | None:
    """Return how many images a split of a dataset has; None where only the files can say."""
    if isinstance(dataset.source, DigitsSource) and isinstance(dataset.split, HoldOut):
        held = dataset.split.per_class * dataset.classes
        return held if split == "val" else DIGITS - held
    if isinstance(dataset.split, SplitScenes):
        return dataset.split.val + dataset.split.held_out if split == "val" else dataset.split.train
    return None


def prompts_of(dataset: Dataset) -> dict[str, int] | None:
    """Return how many prompts of each task, and held-out ones, the validation split of scenes has; None for others."""
    if not isinstance(dataset.split, SplitScenes):
        return None
    tasks = get_args(Task)  # which take turns
    turns = {task: len(range(number, dataset.split.val, len(tasks))) for number, task in enumerate(tasks)}
    return {**turns, "held_out": dataset.split.held_out}
