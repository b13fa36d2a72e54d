"""Settings of the MaskGIT-VQGAN: of params, and the config of its model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from onetok.study.schema.architecture import VectorQuantizerConfig, VectorQuantizerParams
from onetok.study.schema.base import Depth, Entries, Pixels, Strict, Width, violations
from onetok.study.schema.tokenizers import PixelTokenizer, ReleasedTokenizer, TokenizerEntry


class VQGANSettings(Strict):
    width: Width = Field(description="D, channels of a level whose multiplier is 1")
    multipliers: tuple[Width, ...] = Field(
        strict=False,
        min_length=1,
        max_length=14,
        description="channels of each level in widths, finest first",
    )
    blocks: Depth = Field(description="residual blocks of a level, and of the middle")
    norm_groups: Width = Field(description="groups of every GroupNorm; they divide the width")

    @property
    def factor(self) -> int:
        """Pixels of the image's side for one position of the code grid."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @model_validator(mode="after")
    def _groups_divide_the_width(self) -> Self:
        if self.width % self.norm_groups:
            raise ValueError(f"width {self.width} is not divisible into {self.norm_groups} groups")
        return self


class VQGANModel(VQGANSettings):
    """A VQGAN as params describe it."""

    quantizer: VectorQuantizerParams = Field(description="of the codes of the grid")


class VQGANConfig(VQGANSettings):
    """All that the network is built from."""

    image_size: Pixels = Field(description="H = W")
    quantizer: VectorQuantizerConfig

    @property
    def grid(self) -> int:
        """Positions of a side of the code grid."""
        return self.image_size // self.factor

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.image_size % self.factor:
            times = len(self.multipliers) - 1
            raise ValueError(
                f"image size {self.image_size} cannot be halved {times} times, as multipliers ask"
            )
        return self


# The MaskGIT-VQGAN as released, with 1024 codes of 256 px images.
MASKGIT_VQGAN = VQGANConfig(
    image_size=256,
    width=128,
    multipliers=(1, 1, 2, 2, 4),
    blocks=2,
    norm_groups=32,
    quantizer=VectorQuantizerConfig(
        codebook_size=1024, channels=256, normalize=False, commitment=0.25, clustering=False
    ),
)


class VQGANEntry(TokenizerEntry):
    """What VQGANs that are trained here and released ones have in common."""

    model: VQGANModel = Field(description="the convolutional encoder, the codebook and the decoder")

    @property
    def config(self) -> VQGANConfig:
        quantizer = self.model.quantizer.config
        return VQGANConfig.of(self.model, image_size=self.images.size, quantizer=quantizer)

    def quantizer(self, study: Entries) -> VectorQuantizerParams:
        return self.model.quantizer

    def token_count(self, study: Entries) -> int:
        return (self.images.size // self.model.factor) ** 2

    def problems(self, study: Entries) -> Iterator[str]:
        yield from violations(lambda: self.config)


class VQGANTokenizer(PixelTokenizer, VQGANEntry):
    """A VQGAN that is trained here."""

    kind: Literal["vqgan"]


class ReleasedVQGAN(ReleasedTokenizer, VQGANEntry):
    """A VQGAN with released weights."""

    kind: Literal["published-vqgan"]


TOKENIZERS = (VQGANTokenizer, ReleasedVQGAN)
