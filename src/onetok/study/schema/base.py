"""What every schema of params is made of: strict models, types of fields, names that refer to variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Every number has bounds: a value that no training, sampling or metric can use is refused before anything runs.
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[
    float, Field(ge=0, lt=1)
]  # decays and dropouts, which at 1 would keep or drop everything
PositiveFloat = Annotated[float, Field(gt=0, le=1e30)]  # networks compute in float32, which ends at 3.4e38
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e30)]
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch and NumPy take alike
Pixels = Annotated[int, Field(gt=0, le=2**14)]  # a side of an image
Width = Annotated[int, Field(gt=0, le=2**16)]  # channels of a layer, places of a sequence
Depth = Annotated[int, Field(gt=0, le=2**10)]  # layers or blocks, one after the other
CodebookSize = Annotated[int, Field(ge=2, le=2**24)]
Iterations = Annotated[int, Field(gt=0, le=10_000)]  # steps of sampling, rounds of a measurement
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]  # some text in one line
VariantKey = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9][a-z0-9-]*$")]  # family/variant
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="all 64 digits of the digest")]
Commit = Annotated[
    str, Field(pattern=r"^[0-9a-f]{40}$", description="all 40 digits; branches and tags can move")
]
Repository = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$", description="owner/name on the Hub")]
Caption = Annotated[str, Field(description="template with {class} in it; null: no captions")]


@dataclass(frozen=True)
class RefersTo:
    """Marks a field that names a variant of another kind."""

    kind: str


@dataclass(frozen=True)
class RaisedBySpread:
    """Marks a seed of training, initialisation or sampling: a run of the spread has another one (onetok.spread)."""


@dataclass(frozen=True)
class FromStudy:
    """Marks a path that is relative to the study's folder."""


RunSeed = Annotated[Seed, RaisedBySpread()]
StudyPath = Annotated[Name, FromStudy()]
DatasetName = Annotated[VariantKey, RefersTo("datasets")]
EncoderName = Annotated[VariantKey, RefersTo("encoders")]
TokenizerName = Annotated[VariantKey, RefersTo("tokenizers")]
TextTokenizerName = Annotated[VariantKey, RefersTo("text_tokenizers")]
TokensName = Annotated[VariantKey, RefersTo("tokens")]
GeneratorName = Annotated[VariantKey, RefersTo("generators")]
SamplesName = Annotated[VariantKey, RefersTo("samples")]
CaptionsName = Annotated[VariantKey, RefersTo("captions")]
BenchmarkName = Annotated[VariantKey, RefersTo("benchmarks")]


class Strict(BaseModel):
    """Unknown keys, missing keys, values of another type and numbers that are not finite are errors.

    Fields that are tuples say strict=False: YAML and JSON have lists alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, settings: BaseModel, **more: Any) -> Self:
        """Return an instance with the fields that `settings` shares with this class, and with `more`.

        So a model's config takes its own settings from params; `more` is what follows from other entries.
        """
        shared = type(settings).model_fields.keys() & cls.model_fields.keys() - more.keys()
        return cls(**{name: getattr(settings, name) for name in shared}, **more)

    def replace(self, **changes: Any) -> Self:
        """Return an instance with other values of some fields, checked as every instance is."""
        return type(self).of(self, **changes)


def violations(build: Callable[[], BaseModel]) -> Iterator[str]:
    """Yield what the checks of a config say of the values that `build` makes one of."""
    try:
        build()
    except ValidationError as error:
        for detail in error.errors():
            where = "".join(f"{key}." for key in detail["loc"])
            yield f"{where}{detail['msg'].removeprefix('Value error, ')}"


class Entries(Protocol):
    """The entries of a study by kind and name: what an entry needs to look up those that it names."""

    @property
    def datasets(self) -> Mapping[str, Any]: ...

    @property
    def tokenizers(self) -> Mapping[str, Any]: ...

    @property
    def text_tokenizers(self) -> Mapping[str, Any]: ...

    @property
    def tokens(self) -> Mapping[str, Any]: ...

    @property
    def generators(self) -> Mapping[str, Any]: ...
