"""Settings of MaskGIT, as a ViT and as a U-ViT: of params, and the configs of its models."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.architecture import TransformerSize
from onetok.study.schema.base import Positive, PositiveFloat, Strict
from onetok.study.schema.generators import (
    ClassConfig,
    ClassEntry,
    ClassModel,
    MaskedLoss,
    ReleasedGenerator,
    TrainedGenerator,
)


class MaskGITModel(ClassModel):
    init_std: PositiveFloat = Field(description="standard deviation of weights and embeddings as they start")


class MaskGITConfig(ClassConfig, MaskGITModel):
    """All that the network is built from."""

    @property
    def mask_id(self) -> int:
        return self.codebook_size

    @property
    def vocabulary(self) -> int:
        return self.codebook_size + self.classes + 2


class UViTSize(TransformerSize):
    """The size of a U-ViT, which has one block more than layers, in the middle."""

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.layers % 2:
            raise ValueError(f"layers {self.layers} cannot be halved, as a U-ViT's")
        return self


class UViTModel(UViTSize, MaskGITModel):
    """A U-ViT that is trained here."""


class ReleasedUViTModel(UViTSize, ClassModel):
    """A U-ViT whose weights are released."""


class UViTConfig(UViTSize, MaskGITConfig):
    """All that the U-ViT is built from."""


class MaskGITEntry(ClassEntry):
    """What MaskGITs that are trained here and released ones have in common."""

    sampling_kind = "masked"
    model: ClassModel = Field(description="the transformer")


class MaskGITGenerator(TrainedGenerator, MaskGITEntry):
    model: MaskGITModel = Field(description="the transformer")
    loss: MaskedLoss = Field(description="of the tokens that were masked")


class MaskGITViTGenerator(MaskGITGenerator):
    """MaskGIT with a ViT, trained here."""

    kind: Literal["maskgit-vit"]


class MaskGITUViTGenerator(MaskGITGenerator):
    """MaskGIT with a U-ViT, trained here."""

    kind: Literal["maskgit-uvit"]
    model: UViTModel = Field(description="the transformer")


class ReleasedMaskGITViT(ReleasedGenerator, MaskGITEntry):
    """MaskGIT with a ViT, with released weights."""

    kind: Literal["published-maskgit-vit"]


class ReleasedMaskGITUViT(ReleasedGenerator, MaskGITEntry):
    """MaskGIT with a U-ViT, with released weights."""

    kind: Literal["published-maskgit-uvit"]
    model: ReleasedUViTModel = Field(description="the transformer")


class UnreleasedMaskGITViT(Strict):
    """A MaskGIT-ViT of which no weights were released; what is known of it is written here."""

    kind: Literal["maskgit-vit"]
    classes: Positive = Field(description="K")
    model: ClassModel = Field(description="the transformer")


GENERATORS = (MaskGITViTGenerator, MaskGITUViTGenerator, ReleasedMaskGITViT, ReleasedMaskGITUViT)
UNRELEASED_GENERATORS = (UnreleasedMaskGITViT,)
