"""What every schema of params is made of: strict models, types of fields, names that refer to variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
VariantKey = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9][a-z0-9-]*$", description="family/variant")]
Sha256 = Annotated[
    str, Field(pattern=r"^[0-9a-f]{8,64}$", description="the digest, or its first 8 or more digits")
]
Caption = Annotated[str, Field(description="template with {class} in it; null: no captions")]


@dataclass(frozen=True)
class RefersTo:
    """Marks a field that names a variant of another kind."""

    kind: str


DatasetName = Annotated[VariantKey, RefersTo("datasets")]
EncoderName = Annotated[VariantKey, RefersTo("encoders")]
TokenizerName = Annotated[VariantKey, RefersTo("tokenizers")]
TokensName = Annotated[VariantKey, RefersTo("tokens")]
GeneratorName = Annotated[VariantKey, RefersTo("generators")]
SamplesName = Annotated[VariantKey, RefersTo("samples")]
BenchmarkName = Annotated[VariantKey, RefersTo("benchmarks")]


@dataclass(frozen=True)
class LeftOutIfNull:
    """Marks an option that came after artefacts had been made: where it is null, these still hold."""


class Strict(BaseModel):
    """Unknown keys, missing keys and values of another type are errors.

    Fields that are tuples say strict=False: YAML and JSON have lists alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if LeftOutIfNull() in field.metadata and content.get(name) is None:
                content.pop(name, None)
        return content
