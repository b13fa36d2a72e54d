"""Params of tables and figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import (
    CaptionsName,
    Count,
    Name,
    Positive,
    SamplesName,
    Strict,
    TokenizerName,
)

Title = Annotated[str, Field(description="title above the table or figure")]


class Column(Strict):
    """A metric of a table, for every row."""

    metric: str = Field(description="name of the metric (onetok.study.metric_names)")
    label: str = Field(description="heading of the column")
    decimals: Annotated[Count, Field(le=15)] = Field(description="decimals that pages show")
    better: Literal["higher", "lower", "neither"] = Field(
        description="which values are better: an arrow in the heading says it"
    )


class PublishedFigure(Strict):
    """A figure that somebody else has published."""

    value: float = Field(description="the figure, in the column's unit")
    source: str = Field(description="where people find it: paper and table, or page")
    unverified: bool = Field(description="whether it rests on one secondary source, a plot or memory")


class Published(Strict):
    """What is published of the system of a row."""

    table: str = Field(description="table of the collection of published figures")
    model: str = Field(description="row of that table")
    figures: dict[str, PublishedFigure] = Field(
        description="figures by metric, each of a column of the table"
    )


class Row(Strict):
    """A system of a table: a tokenizer by its reconstructions, or a generator by its samples or its captions."""

    label: str = Field(description="name of the row, which stands in the first column")
    tokenizer: TokenizerName | None = Field(
        description="tokenizer whose reconstruction scores the row shows; null: none"
    )
    samples: SamplesName | None = Field(description="samples whose scores the row shows; null: none")
    # A row of no captions leaves the key out, so that tables without captions are what they were before there were any.
    captions: CaptionsName | None = Field(
        default=None,
        exclude_if=lambda name: name is None,
        description="generated captions whose scores the row shows; left out: none",
    )
    published: Published | None = Field(
        description="published figures that stand beside the measured ones; null: none"
    )


class Claim(Strict):
    """A sentence about two rows that the figures of a run bear out or do not; the table says which, with them."""

    text: str = Field(description="a whole sentence without figures")
    metric: str = Field(description="metric that is compared, of a column of the table")
    row: str = Field(description="label of the row that the sentence is about")
    relation: Literal["above", "below"] = Field(
        description="where the row's figure lies, seen from the other's, if the sentence is true"
    )
    other: str = Field(description="label of the row that it is compared with")


class Table(Strict):
    """A table of scores, with what is to be known of them below it."""

    title: Title
    note: str = Field(
        description="what holds whatever is measured; what the figures must bear out is a claim"
    )
    spread: bool = Field(description="whether pages show mean ± standard deviation over the kept runs")
    controls: tuple[str, ...] = Field(
        strict=False, description="labels of rows that no other row may resemble, such as an untrained model"
    )
    claims: tuple[Claim, ...] = Field(
        strict=False, description="sentences below the table that its figures bear out or do not"
    )
    columns: tuple[Column, ...] = Field(strict=False, min_length=1, description="metrics from left to right")
    rows: tuple[Row, ...] = Field(strict=False, min_length=1, description="systems from top to bottom")


class ReconstructionFigure(Strict):
    """Images of a benchmark above their reconstructions, a sheet for each tokenizer."""

    kind: Literal["reconstructions"]
    title: Title
    tokenizers: tuple[TokenizerName, ...] = Field(
        strict=False, min_length=1, description="tokenizers from top to bottom"
    )


class SamplesFigure(Strict):
    """Samples, a row for each class, a sheet for each set of samples."""

    kind: Literal["samples"]
    title: Title
    samples: tuple[SamplesName, ...] = Field(
        strict=False, min_length=1, description="sets of samples from top to bottom"
    )
    per_class: Positive = Field(description="images of each class, the first ones")


class PromptsFigure(Strict):
    """Captions beside the samples that were drawn of them."""

    kind: Literal["prompts"]
    title: Title
    samples: tuple[SamplesName, ...] = Field(
        strict=False, min_length=1, description="sets of samples of the same captions, from left to right"
    )
    prompts: Positive = Field(description="captions that are shown, spread over the benchmark's")


class CaptionsFigure(Strict):
    """Images of a benchmark beside the captions that were generated of them."""

    kind: Literal["captions"]
    title: Title
    captions: CaptionsName = Field(description="set of generated captions")
    images: Positive = Field(description="images that are shown, spread over the benchmark's")


class ReconstructionsPanel(Strict):
    """Images of a benchmark above their reconstructions."""

    tokenizer: TokenizerName = Field(description="tokenizer whose reconstructions are shown")
    label: Title = Field(description="line above the images")


class ClassesPanel(Strict):
    """Samples of the classes in turn, in one row."""

    samples: SamplesName = Field(description="set of samples of classes")
    label: Title = Field(description="line above the images")
    images: Positive = Field(
        description="images of the row: the first of each class, then the second of each"
    )


class PromptsPanel(Strict):
    """Samples of captions in one row, each above its caption."""

    samples: SamplesName = Field(description="set of samples of captions")
    label: Title = Field(description="line above the images")
    images: Positive = Field(description="captions that are shown, spread over the benchmark's")


class OverviewFigure(Strict):
    """One picture of a study: originals with reconstructions, samples of classes, samples of captions."""

    kind: Literal["overview"]
    title: Title
    reconstructions: ReconstructionsPanel = Field(description="the first panel")
    classes: ClassesPanel = Field(description="the second panel")
    prompts: PromptsPanel = Field(description="the third panel")


class CurvesFigure(Strict):
    """A scalar of training runs against the step, a curve for each run."""

    kind: Literal["curves"]
    title: Title
    runs: tuple[str, ...] = Field(
        strict=False,
        min_length=1,
        description="kind/family/variant of trained tokenizers (tokenizers/titok/vq-16) and generators",
    )
    scalar: Name = Field(description="column of the runs' scalars.csv, as train/total")


Figure = Annotated[
    ReconstructionFigure | SamplesFigure | PromptsFigure | CaptionsFigure | OverviewFigure | CurvesFigure,
    Field(discriminator="kind"),
]
