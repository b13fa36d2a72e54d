"""Params of tables and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import Count, Positive, SamplesName, Strict, TokenizerName


class Tolerance(Strict):
    """How far another machine's figure may lie: |a - b| ≤ absolute + relative · |b|."""

    absolute: float
    relative: float


class Column(Strict):
    metric: str
    label: str
    decimals: Count
    better: Literal["higher", "lower", "neither"]
    tolerance: Tolerance


class Published(Strict):
    source: str = Field(description="where people find it")
    table: str = Field(description="table of the collection of published figures")
    model: str = Field(description="row of that table")
    figures: dict[str, float] = Field(description="metric → figure, in the column's unit")


class Row(Strict):
    label: str
    tokenizer: TokenizerName | None
    samples: SamplesName | None
    published: Published | None


class Table(Strict):
    title: str
    note: str
    columns: tuple[Column, ...] = Field(strict=False)
    rows: tuple[Row, ...] = Field(strict=False)


class ReconstructionFigure(Strict):
    kind: Literal["reconstructions"]
    title: str
    tokenizers: tuple[TokenizerName, ...] = Field(strict=False)


class SamplesFigure(Strict):
    kind: Literal["samples"]
    title: str
    samples: tuple[SamplesName, ...] = Field(strict=False)
    per_class: Positive


class PromptsFigure(Strict):
    """Captions beside the samples that were drawn of them."""

    kind: Literal["prompts"]
    title: str
    samples: tuple[SamplesName, ...] = Field(strict=False)
    prompts: Positive = Field(description="captions that are shown, spread over the benchmark's")


class CurvesFigure(Strict):
    kind: Literal["curves"]
    title: str
    runs: tuple[str, ...] = Field(strict=False, description="kind/family/variant of trained artefacts")
    scalar: str


Figure = Annotated[
    ReconstructionFigure | SamplesFigure | PromptsFigure | CurvesFigure, Field(discriminator="kind")
]
