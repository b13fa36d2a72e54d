"""Checks of encoders, and of their use as text encoders."""

from __future__ import annotations

from collections.abc import Iterator

from onetok.errors import nearest
from onetok.study.checks.shared import check_captions, check_images, check_trained_on, check_training
from onetok.study.schema.encoders import (
    CLASSIFIER_GROUPS,
    ClassifierEncoder,
    CLIPEncoder,
    Encoder,
    OpenCLIPEncoder,
)
from onetok.study.schema.shapes import TextShape
from onetok.study.schema.study import Study
from onetok.study.shapes import open_clip_configs, text_shape


def check_encoder(study: Study, encoder: Encoder) -> Iterator[str]:
    if isinstance(encoder, ClassifierEncoder | CLIPEncoder):
        yield from check_training(encoder.training)
        yield from check_images(encoder.images)
        yield from check_trained_on(study, encoder.dataset)
    if isinstance(encoder, CLIPEncoder):
        yield from _clip(study, encoder)
    if isinstance(encoder, ClassifierEncoder):
        yield from _classifier(encoder)
    if isinstance(encoder, OpenCLIPEncoder) and encoder.architecture not in open_clip_configs():
        text = f"architecture: open_clip has none named {encoder.architecture!r}"
        yield f"{text}; {nearest(encoder.architecture, open_clip_configs())}"


def _classifier(encoder: ClassifierEncoder) -> Iterator[str]:
    if encoder.images.size % 2 ** len(encoder.model.channels):
        halvings = len(encoder.model.channels)
        yield f"model.channels: {halvings} stages cannot halve images.size {encoder.images.size} that often"
    for channels in encoder.model.channels:
        if channels % CLASSIFIER_GROUPS:
            yield f"model.channels: {channels} is not a multiple of the {CLASSIFIER_GROUPS} norm groups"


def _clip(study: Study, encoder: CLIPEncoder) -> Iterator[str]:
    yield from check_captions(study, encoder.dataset)
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


def check_text_encoder(
    study: Study, where: str, name: str, expected: TextShape | None = None
) -> Iterator[str]:
    """Check that an encoder reads captions and, where something needs one, the shape of its states."""
    encoder = study.encoders[name]
    if not isinstance(encoder, CLIPEncoder | OpenCLIPEncoder):
        yield f"{where}: {name} is of kind {encoder.kind}, expected a text encoder"
        return
    found = known_text_shape(study, name)
    if expected is not None and found not in (None, expected):
        yield f"{where}: {name} gives {found}, expected {expected}"


def known_text_shape(study: Study, name: str) -> TextShape | None:
    """Return the shape of a text encoder's states.

    None for an encoder of another kind, or of an architecture that does not exist; other checks report these.
    """
    encoder = study.encoders[name]
    if isinstance(encoder, OpenCLIPEncoder) and encoder.architecture not in open_clip_configs():
        return None
    return text_shape(study, name) if isinstance(encoder, CLIPEncoder | OpenCLIPEncoder) else None
