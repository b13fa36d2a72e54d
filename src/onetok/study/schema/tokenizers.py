"""Params that all tokenizers share. Those of a system are in its folder (onetok.systems), and so are its checks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.architecture import Quantizer, VectorQuantizerParams
from onetok.study.schema.base import (
    BelowOne,
    BenchmarkName,
    Count,
    DatasetName,
    EncoderName,
    Entries,
    NonNegativeFloat,
    Pixels,
    Strict,
    Width,
)
from onetok.study.schema.datasets import Images, TrainingImages
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.shapes import TokenShape
from onetok.study.schema.starts import FromTokenizer, FromWeights, TokenizerStart
from onetok.study.schema.training import AdamW, DiscriminatorSchedule, TokenizerTraining


class Perceptual(Strict):
    """A term that compares what a frozen network makes of image and reconstruction."""

    encoder: EncoderName = Field(description="the frozen network")
    layer: Literal["maps", "features", "logits", "lpips"] = Field(
        description="what is compared; lpips: its distance"
    )
    weight: NonNegativeFloat = Field(description="factor of the term")


class DiscriminatorModel(Strict):
    width: Width = Field(description="channels at full resolution; published: 128")
    stages: tuple[Width, ...] = Field(
        strict=False,
        min_length=1,
        max_length=14,
        description="channels of each stage, which halves the side; published: 128, 256, 512",
    )
    groups: Width = Field(description="groups of every GroupNorm, which divide the channels; published: 32")
    side: Pixels = Field(description="S, side of the map of logits; published: 16")

    @model_validator(mode="after")
    def _groups_divide_the_channels(self) -> Self:
        for channels in self.stages:
            if channels % self.groups:
                raise ValueError(f"{self.groups} groups do not divide a stage of {channels} channels")
        return self


class LeCam(Strict):
    """LeCam regularisation of the discriminator (arXiv 2104.03310)."""

    weight: NonNegativeFloat = Field(description="factor of the term")
    decay: BelowOne = Field(description="of the moving averages of its logits")


class Adversarial(Strict):
    """The tokenizer's term against a discriminator, and the discriminator's training."""

    discriminator: DiscriminatorModel = Field(
        description="the network that tells images from reconstructions"
    )
    weight: NonNegativeFloat = Field(description="of the tokenizer's term; constant")
    start: Count = Field(description="first step of the term and of the discriminator's training")
    lecam: LeCam = Field(description="regularisation of the discriminator")
    optimizer: AdamW = Field(description="of the discriminator")
    schedule: DiscriminatorSchedule = Field(description="of the discriminator: counted from `start`")


class TokenizerLosses(Strict):
    l1: NonNegativeFloat = Field(description="weight of the mean absolute difference of pixels")
    l2: NonNegativeFloat = Field(description="weight of the mean squared difference of pixels")
    quantizer: NonNegativeFloat = Field(
        description="of commitment and codebook terms, or of the KL divergence"
    )
    perceptual: tuple[Perceptual, ...] = Field(
        strict=False, description="terms of frozen networks; may be empty"
    )
    adversarial: Adversarial | None = Field(description="null: no discriminator")


class TokenizerEntry(Strict):
    """A tokenizer of params. A system's own entries say what of the following differs."""

    kind: str
    benchmark: BenchmarkName = Field(description="what its reconstructions are scored by")
    images: Images = Field(description="how images are brought to its size")

    buildable_alone: ClassVar[bool] = True  # whether its network can be built without other artefacts

    @property
    def text_encoder(self) -> str | None:
        """The encoder of the captions that its decoder reads; None where it reads none."""
        return None

    @abstractmethod
    def quantizer(self, study: Entries) -> Quantizer:
        """Return its quantizer. Raises OnetokError where that is another entry's and there is none."""

    @abstractmethod
    def token_count(self, study: Entries) -> int:
        """Return the number of tokens of an image."""

    def token_shape(self, study: Entries) -> TokenShape:
        """Return the shape of the tokens of an image."""
        quantizer = self.quantizer(study)
        size = quantizer.codebook_size if isinstance(quantizer, VectorQuantizerParams) else None
        return TokenShape(size, quantizer.channels, self.token_count(study))

    @abstractmethod
    def problems(self, study: Entries) -> Iterator[str]:
        """Yield what is wrong with the values that only this system has, one line each."""


class TrainedTokenizer(TokenizerEntry):
    dataset: DatasetName = Field(description="whose train split it learns from")
    images: TrainingImages = Field(
        description="how images are brought to its size, and augmented in training"
    )
    training: TokenizerTraining = Field(description="steps, batch, optimizer and seed")
    init_from: TokenizerStart | None = Field(
        default=None,  # left out, it is not in receipts either: those of older runs stay what they are
        exclude_if=lambda start: start is None,
        description="fine-tuning: the weights that training starts from, of a model of the same sizes; null or"
        " left out: new ones",
    )

    @property
    def starts_from(self) -> FromTokenizer | FromWeights | None:
        """The weights that training starts from; None where it starts from new ones."""
        return self.init_from


class PixelTokenizer(TrainedTokenizer):
    """A tokenizer that is trained to rebuild the pixels of images."""

    losses: TokenizerLosses = Field(description="weights of the terms that training minimises")


class ReleasedTokenizer(TokenizerEntry):
    """A tokenizer whose weights its authors have released."""

    weights: WeightsFile = Field(description="the released file")
