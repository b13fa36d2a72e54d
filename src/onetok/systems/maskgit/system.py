"""MaskGIT with both of its backbones, for the rest of the project."""

from __future__ import annotations

from typing import Any

from torch import nn

from onetok.nn.masked_generator import sample_masked_generator
from onetok.nn.protocols import Generator
from onetok.nn.weights import linear_layers, weight_bytes
from onetok.release.class_generators import RELEASED_INIT_STD
from onetok.systems.maskgit.model import ClassConditional, MaskGIT
from onetok.systems.maskgit.release import UVIT_KEYS, VIT_KEYS, released_config, released_uvit_config
from onetok.systems.maskgit.schema import (
    MaskGITConfig,
    MaskGITGenerator,
    MaskGITModel,
    MaskGITUViTGenerator,
    MaskGITViTGenerator,
    ReleasedMaskGITUViT,
    ReleasedMaskGITViT,
    UnreleasedMaskGITViT,
    UViTConfig,
)
from onetok.systems.maskgit.uvit import MaskGITUViT
from onetok.systems.records import Condition, GeneratorSystem, Release, Shapes, discrete_shape
from onetok.training.objectives import MaskedGeneratorObjective


def values(entry: Any, shapes: Shapes) -> dict[str, Any]:
    """Return what the config takes from elsewhere: the shape of the tokens, and what releases leave out."""
    released = {} if isinstance(entry.model, MaskGITModel) else {"init_std": RELEASED_INIT_STD}
    return {**discrete_shape(shapes), "classes": entry.classes, **released}


def build_vit(entry: Any, shapes: Shapes) -> MaskGIT:
    return MaskGIT(MaskGITConfig.of(entry.model, **values(entry, shapes)))


def build_uvit(entry: Any, shapes: Shapes) -> MaskGITUViT:
    return MaskGITUViT(UViTConfig.of(entry.model, **values(entry, shapes)))


def objective(
    entry: MaskGITGenerator, model: ClassConditional, condition: Condition
) -> MaskedGeneratorObjective:
    return MaskedGeneratorObjective(model, condition, entry.loss)


def step_bytes(model: Generator) -> dict[nn.Module, int]:
    """A step begins where ids are embedded, the class's and the masks'; of the embedding it reads a few rows."""
    (embedding,) = (module for module in model.modules() if isinstance(module, nn.Embedding))
    return {embedding: weight_bytes(linear_layers(model))}


def _system(kind: str, **of_backbone: Any) -> GeneratorSystem:
    return GeneratorSystem(
        kind=kind,
        no_decay=("positions", "embedding"),
        objective=objective,
        sampler=sample_masked_generator,
        compiles=True,
        step_bytes=step_bytes,
        **of_backbone,
    )


RECORDS = (
    _system(
        "maskgit-vit",
        model=MaskGIT,
        config=MaskGITConfig,
        class_table="word_embedding.weight",
        builds={
            MaskGITViTGenerator: build_vit,
            ReleasedMaskGITViT: build_vit,
            UnreleasedMaskGITViT: build_vit,
        },
        releases={"maskgit_vit": Release(VIT_KEYS, released_config)},
        layout=lambda entry: "maskgit_vit",
    ),
    _system(
        "maskgit-uvit",
        model=MaskGITUViT,
        config=UViTConfig,
        class_table="embedding.weight",
        builds={MaskGITUViTGenerator: build_uvit, ReleasedMaskGITUViT: build_uvit},
        releases={"maskgit_uvit": Release(UVIT_KEYS, released_uvit_config)},
        layout=lambda entry: "maskgit_uvit",
    ),
)
