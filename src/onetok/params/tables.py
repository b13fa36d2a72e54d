"""Params of tables and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import Count, Name, Positive, SamplesName, Strict, TokenizerName


class Column(Strict):
    metric: str
    label: str
    decimals: Annotated[Count, Field(le=15)]
    better: Literal["higher", "lower", "neither"]


class PublishedFigure(Strict):
    value: float = Field(description="in the column's unit")
    source: str = Field(description="where people find it")
    unverified: bool = Field(description="whether it rests on one secondary source, a plot or memory")


class Published(Strict):
    table: str = Field(description="table of the collection of published figures")
    model: str = Field(description="row of that table")
    figures: dict[str, PublishedFigure] = Field(description="by metric")


class Row(Strict):
    label: str
    tokenizer: TokenizerName | None
    samples: SamplesName | None
    published: Published | None


class Claim(Strict):
    """A sentence about two rows that the figures of a run bear out or do not; the table says which, with them."""

    text: str = Field(description="a whole sentence without figures")
    metric: str = Field(description="of a column of the table")
    row: str = Field(description="label of the row that the sentence is about")
    relation: Literal["above", "below"] = Field(description="where its figure lies, if the sentence is true")
    other: str = Field(description="label of the row that it is compared with")


class Table(Strict):
    title: str
    note: str = Field(
        description="what holds whatever is measured; what the figures must bear out is a claim"
    )
    spread: bool = Field(description="whether pages show mean ± standard deviation over the kept runs")
    controls: tuple[str, ...] = Field(
        strict=False, description="labels of rows that no other row may resemble, such as an untrained model"
    )
    claims: tuple[Claim, ...] = Field(strict=False)
    columns: tuple[Column, ...] = Field(strict=False, min_length=1)
    rows: tuple[Row, ...] = Field(strict=False, min_length=1)


class ReconstructionFigure(Strict):
    kind: Literal["reconstructions"]
    title: str
    tokenizers: tuple[TokenizerName, ...] = Field(strict=False, min_length=1)


class SamplesFigure(Strict):
    kind: Literal["samples"]
    title: str
    samples: tuple[SamplesName, ...] = Field(strict=False, min_length=1)
    per_class: Positive


class PromptsFigure(Strict):
    """Captions beside the samples that were drawn of them."""

    kind: Literal["prompts"]
    title: str
    samples: tuple[SamplesName, ...] = Field(strict=False, min_length=1)
    prompts: Positive = Field(description="captions that are shown, spread over the benchmark's")


class CurvesFigure(Strict):
    kind: Literal["curves"]
    title: str
    runs: tuple[str, ...] = Field(
        strict=False, min_length=1, description="kind/family/variant of trained artefacts"
    )
    scalar: Name


Figure = Annotated[
    ReconstructionFigure | SamplesFigure | PromptsFigure | CurvesFigure, Field(discriminator="kind")
]
