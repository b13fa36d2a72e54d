"""MaskGen on discrete tokens and on continuous ones, for the rest of the project."""

from __future__ import annotations

from typing import Any

from torch import nn

from onetok.nn.masked_generator import sample_masked_generator
from onetok.nn.weights import linear_layers, weight_bytes
from onetok.study.schema.generators import ReleasedGenerator
from onetok.systems.maskgen.kl import MaskGenKL
from onetok.systems.maskgen.mmdit import MMDiT
from onetok.systems.maskgen.release import (
    KL_KEYS,
    RELEASED_INIT_STD,
    SPARE_ROWS,
    VQ_KEYS,
    released_kl_config,
    released_vq_config,
)
from onetok.systems.maskgen.sampling import sample_latents
from onetok.systems.maskgen.schema import (
    KLEntry,
    MaskGenKLConfig,
    MaskGenKLGenerator,
    MaskGenModel,
    MaskGenVQConfig,
    MaskGenVQGenerator,
    MMDiTConfig,
    ReleasedMaskGenKL,
    ReleasedMaskGenVQ,
    TrainedModel,
    VQEntry,
)
from onetok.systems.maskgen.vq import MaskGenVQ
from onetok.systems.records import Condition, GeneratorSystem, Release, Shapes, discrete_shape
from onetok.training.objectives import LatentObjective, MaskedGeneratorObjective


def shared_fields(model: MaskGenModel, shapes: Shapes) -> dict[str, Any]:
    """Return the fields that both configs have."""
    assert shapes.text is not None
    init_std, checkpointing = RELEASED_INIT_STD, False  # releases leave out what is of training alone
    if isinstance(model, TrainedModel):
        init_std, checkpointing = model.init_std, model.checkpointing
    text = {"text_width": shapes.text.width, "pooled_width": shapes.text.pooled_width}
    backbone = MMDiTConfig.of(model, **text, checkpointing=checkpointing)
    return {"tokens": shapes.tokens.length, "backbone": backbone, "init_std": init_std}


def build_vq(entry: VQEntry, shapes: Shapes) -> MaskGenVQ:
    spare = SPARE_ROWS if isinstance(entry, ReleasedGenerator) else 0
    fields = shared_fields(entry.model, shapes) | discrete_shape(shapes)
    return MaskGenVQ(MaskGenVQConfig.of(entry.model, spare_rows=spare, **fields))


def build_kl(entry: KLEntry, shapes: Shapes) -> MaskGenKL:
    head = entry.model.head
    fields = {"channels": shapes.tokens.channels, "head_width": head.width, "head_layers": head.layers}
    return MaskGenKL(MaskGenKLConfig.of(entry.model, **fields, **shared_fields(entry.model, shapes)))


def vq_objective(
    entry: MaskGenVQGenerator, model: MaskGenVQ, condition: Condition
) -> MaskedGeneratorObjective:
    return MaskedGeneratorObjective(model, condition, entry.loss)


def kl_objective(entry: MaskGenKLGenerator, model: MaskGenKL, condition: Condition) -> LatentObjective:
    return LatentObjective(model, condition, entry.loss)


def vq_step_bytes(model: MaskGenVQ) -> dict[nn.Module, int]:
    """A step begins where ids are embedded, and ends with the embedding's rows of codes as the head."""
    codes = model.embedding.weight[: model.config.codebook_size]
    return {model.embedding: backbone_bytes(model.backbone) + codes.nbytes}


def kl_step_bytes(model: MaskGenKL) -> dict[nn.Module, int]:
    """A round begins where latents are embedded; in it, every step of the diffusion where the head embeds them."""
    head = model.head
    blocks = [linear for block in head.each_block() for linear in (block.up, block.down)]
    rounds = weight_bytes([model.input]) + backbone_bytes(model.backbone)
    return {model.input: rounds, head.input: weight_bytes([head.input, *blocks, head.output])}


def backbone_bytes(backbone: MMDiT) -> int:
    """Return the bytes that a pass reads; the queries of the last text's layer are not among them."""
    streams = [stream for block in backbone.each_block() for stream in (block.image, block.text)]
    layers = [
        layer for stream in streams for layer in linear_layers(stream) if layer is not stream.modulation
    ]
    return weight_bytes(layers) - weight_bytes([streams[-1].qkv]) // 3


RECORDS = (
    GeneratorSystem(
        kind="maskgen-vq",
        model=MaskGenVQ,
        config=MaskGenVQConfig,
        no_decay=("positions", "embedding", "text_projection", "modulation"),
        builds={MaskGenVQGenerator: build_vq, ReleasedMaskGenVQ: build_vq},
        objective=vq_objective,
        sampler=sample_masked_generator,
        compiles=True,
        releases={"maskgen_vq": Release(VQ_KEYS, released_vq_config)},
        layout=lambda entry: "maskgen_vq",
        step_bytes=vq_step_bytes,
    ),
    GeneratorSystem(
        kind="maskgen-kl",
        model=MaskGenKL,
        config=MaskGenKLConfig,
        no_decay=(
            *("positions", "mask_token", "image.modulation", "text.modulation", "backbone.final_modulation"),
            *("head.time", "head.condition"),
        ),
        builds={MaskGenKLGenerator: build_kl, ReleasedMaskGenKL: build_kl},
        objective=kl_objective,
        sampler=sample_latents,
        compiles=False,
        releases={"maskgen_kl": Release(KL_KEYS, released_kl_config)},
        layout=lambda entry: "maskgen_kl",
        step_bytes=kl_step_bytes,
    ),
)
