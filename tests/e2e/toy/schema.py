"""Settings of the toys: of params, and the configs of their models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.architecture import VectorQuantizerConfig, VectorQuantizerParams
from onetok.study.schema.base import Entries, Pixels, Strict, violations
from onetok.study.schema.generators import ClassConfig, ClassEntry, TrainedGenerator
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.tokenizers import PixelTokenizer


class PatchSettings(Strict):
    patch: Pixels = Field(description="side of a patch")


class PatchModel(PatchSettings):
    quantizer: VectorQuantizerParams


class PatchesConfig(PatchSettings):
    image_size: Pixels
    quantizer: VectorQuantizerConfig

    @model_validator(mode="after")
    def _patches_tile_the_image(self) -> Self:
        if self.image_size % self.patch:
            raise ValueError(f"patch {self.patch} does not divide image size {self.image_size}")
        return self


class TableConfig(ClassConfig):
    """All that a table is built from."""


class PatchTokenizer(PixelTokenizer):
    kind: Literal["toy-patches"]
    model: PatchModel

    @property
    def config(self) -> PatchesConfig:
        quantizer = self.model.quantizer.config
        return PatchesConfig.of(self.model, image_size=self.images.size, quantizer=quantizer)

    def quantizer(self, study: Entries) -> VectorQuantizerParams:
        return self.model.quantizer

    def token_count(self, study: Entries) -> int:
        return (self.images.size // self.model.patch) ** 2

    def problems(self, study: Entries) -> Iterator[str]:
        yield from violations(lambda: self.config)


class TableGenerator(TrainedGenerator, ClassEntry):
    kind: Literal["toy-table"]

    sampling_kind = "toy-independent"


class IndependentSampling(SamplingEntry):
    kind: Literal["toy-independent"]

    def summary(self) -> str:
        return "every token for itself"


TOKENIZERS = (PatchTokenizer,)
GENERATORS = (TableGenerator,)
SAMPLINGS = (IndependentSampling,)
