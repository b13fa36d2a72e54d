"""Settings that the models of several systems share, in params and in configs: quantizers, sizes of transformers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.base import CodebookSize, Depth, NonNegativeFloat, Strict, Width


class TransformerSize(Strict):
    """The size of a stack of transformer blocks."""

    width: Width = Field(description="channels of a token between the layers")
    layers: Depth = Field(description="blocks, one after the other")
    heads: Width = Field(description="heads of the attention; they divide the width")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        return self


class VectorQuantizerConfig(Strict):
    """Discrete tokens: the nearest entries of a learned codebook (VQ)."""

    codebook_size: CodebookSize = Field(description="K, entries of the codebook")
    channels: Width = Field(description="C, channels of a token")
    normalize: bool = Field(description="compare directions: L2-normalise features and codebook entries")
    commitment: NonNegativeFloat = Field(
        description="weight of the commitment term; the codebook term's is 1"
    )
    clustering: bool = Field(description="in training, move rarely used entries towards the data (CVQ-VAE)")

    @property
    def features(self) -> int:
        """Channels that the encoder has to give."""
        return self.channels


class GaussianConfig(Strict):
    """Continuous tokens: samples of a Gaussian posterior (KL)."""

    channels: Width = Field(description="C, channels of a token")

    @property
    def features(self) -> int:
        """Channels that the encoder has to give: a mean and a log-variance for each of the token's."""
        return 2 * self.channels


QuantizerConfig = VectorQuantizerConfig | GaussianConfig


class VectorQuantizerParams(VectorQuantizerConfig):
    """A vector quantizer as params name it."""

    kind: Literal["vq"]

    @property
    def config(self) -> VectorQuantizerConfig:
        return VectorQuantizerConfig.of(self)


class GaussianParams(GaussianConfig):
    """The Gaussian posterior as params name it."""

    kind: Literal["kl"]

    @property
    def config(self) -> GaussianConfig:
        return GaussianConfig.of(self)


Quantizer = VectorQuantizerParams | GaussianParams
