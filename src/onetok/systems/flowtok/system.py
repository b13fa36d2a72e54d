"""FlowTok and its image tokenizer, for the rest of the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from onetok.nn.weights import linear_layers, weight_bytes
from onetok.study.schema.shapes import TextShape
from onetok.systems.flowtok import schema
from onetok.systems.flowtok.image_tokenizer import FlowTiTok
from onetok.systems.flowtok.model import Flow, FlowCaptioner, FlowTok
from onetok.systems.flowtok.release import (
    KEYS,
    RELEASED_DECODER,
    TOKENIZER_KEYS,
    released_config,
    released_tokenizer_config,
)
from onetok.systems.flowtok.sampling import sample_flow
from onetok.systems.flowtok.schema import (
    RELEASED_TRAINING,
    SIZES,
    CaptionFlowConfig,
    CosineAlignment,
    FlowTextConfig,
    FlowTextTokenizer,
    FlowTiTokConfig,
    FlowTiTokTokenizer,
    FlowTokConfig,
    FlowTokEntry,
    FlowTokGenerator,
    ReleasedFlowTiTok,
    ReleasedFlowTok,
    TrainedFlowTokModel,
)
from onetok.systems.flowtok.text_tokenizer import FlowText
from onetok.systems.records import (
    Condition,
    GeneratorSystem,
    Paper,
    Release,
    Shapes,
    TextTokenizerSystem,
    TokenizerSystem,
)
from onetok.systems.titok.schema import config_fields
from onetok.training.objectives import LatentObjective
from onetok.training.tokenizer_losses import Artefacts


def build_tokenizer(entry: FlowTiTokTokenizer, made: Artefacts) -> FlowTiTok:
    """Return a tokenizer that fits the text encoder which the study has trained."""
    text = made.text_encoder(entry.text)
    fields: dict[str, Any] = {"text_states": text.context_length, "text_width": text.text_width}
    return FlowTiTok(FlowTiTokConfig(**config_fields(entry.model, entry.images.size), **fields))


def build_released_tokenizer(entry: ReleasedFlowTiTok, made: Artefacts) -> FlowTiTok:
    return FlowTiTok(FlowTiTokConfig(**config_fields(entry.model, entry.images.size), **RELEASED_DECODER))


def build(entry: FlowTokEntry, shapes: Shapes) -> FlowTok:
    model, text, tokens = entry.model, shapes.text, shapes.tokens
    assert text is not None
    shape = {"tokens": tokens.length, "channels": tokens.channels, "text_width": text.width}
    training = {} if isinstance(model, TrainedFlowTokModel) else RELEASED_TRAINING.model_dump()
    return FlowTok(FlowTokConfig.of(model, size=SIZES[model.size], **shape, **training))


def objective(entry: FlowTokGenerator, model: FlowTok, condition: Condition) -> LatentObjective:
    if isinstance(entry.loss.alignment, CosineAlignment):
        # It has no effect, and training on several processes needs a gradient of every trained parameter.
        model.log_scale.requires_grad_(False)
    return LatentObjective(model, condition, entry.loss)


def build_text_tokenizer(entry: FlowTextTokenizer, text: TextShape, seen: Sequence[int]) -> FlowText:
    """Return a text tokenizer that fits a text encoder; `seen` are the token ids of the training captions."""
    vocabulary = tuple(seen) if entry.model.vocabulary == "seen" else ()
    shape = {"tokens": text.length, "text_width": text.width, "vocabulary": vocabulary}
    return FlowText(FlowTextConfig.of(entry.model, **shape))


def build_captioner(entry: schema.FlowCaptioner, shapes: Shapes) -> FlowCaptioner:
    tokens = shapes.tokens
    shape = {"tokens": tokens.length, "channels": tokens.channels}
    return FlowCaptioner(CaptionFlowConfig.of(entry.model, size=SIZES[entry.model.size], **shape))


def captioner_objective(
    entry: schema.FlowCaptioner, model: FlowCaptioner, condition: Condition
) -> LatentObjective:
    return LatentObjective(model, condition, entry.loss)


def step_bytes(model: Flow) -> dict[nn.Module, int]:
    """A step begins where a point of the flow is embedded; modulations are computed for many steps at once."""
    blocks = [layer for b in model.each_block() for layer in linear_layers(b) if layer is not b.modulation]
    return {model.input: weight_bytes([model.input, *blocks, model.output])}


FLOWTOK = Paper("FlowTok: Flowing Seamlessly Across Text and Image Tokens", "2503.10772")

RECORDS = (
    TokenizerSystem(
        kind="flowtitok",
        model=FlowTiTok,
        config=FlowTiTokConfig,
        no_decay=("positions", "mask_token", "latent_tokens", "embed"),
        builds={FlowTiTokTokenizer: build_tokenizer, ReleasedFlowTiTok: build_released_tokenizer},
        releases={"flowtok_image_tokenizer": Release(TOKENIZER_KEYS, released_tokenizer_config)},
        layout=lambda entry: "flowtok_image_tokenizer",
        description="FlowTok's image tokenizer: 77 continuous tokens, decoded together with the caption",
        papers=(FLOWTOK,),
    ),
    GeneratorSystem(
        kind="flowtok",
        model=FlowTok,
        config=FlowTokConfig,
        no_decay=("input", "time", "indicator"),
        builds={FlowTokGenerator: build, ReleasedFlowTok: build},
        objective=objective,
        sampler=sample_flow,
        compiles=False,
        releases={"flowtok": Release(KEYS, released_config)},
        layout=lambda entry: "flowtok",
        step_bytes=step_bytes,
    ),
    TextTokenizerSystem(
        kind="flowtok-text",
        model=FlowText,
        config=FlowTextConfig,
        no_decay=("positions", "embed"),
        builds={FlowTextTokenizer: build_text_tokenizer},
    ),
    GeneratorSystem(
        kind="flowtok-captioner",
        model=FlowCaptioner,
        config=CaptionFlowConfig,
        no_decay=("input", "time", "indicator"),
        builds={schema.FlowCaptioner: build_captioner},
        objective=captioner_objective,
        sampler=sample_flow,
        compiles=False,
        step_bytes=step_bytes,
    ),
)
