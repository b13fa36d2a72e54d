"""MaskGIT-VQGAN: an image as a 2D grid of codes (VQGAN, arXiv 2012.09841, as in MaskGIT, arXiv 2202.04200).

A convolutional encoder halves the image level by level, a codebook replaces each place of the last grid by
its nearest entry, and a mirrored decoder draws the image. RAR generates these codes. Two-stage TiTok learns
to predict them, and keeps the codebook and the decoder as its own last step. There is no attention.

Legend: B batch · H,W pixels · g = H/2^(levels-1) places a side · N = g² tokens, row by row · C code channels
        · D width of a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.models.quantizers import Quantized, Reconstruction, Tokens, VectorQuantizer, VectorQuantizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class VQGANConfig:
    image_size: int  # H = W
    width: int  # D of a level of multiplier 1
    multipliers: tuple[int, ...]  # one for each level, finest first
    blocks: int  # residual blocks of a level, and of the middle
    norm_groups: int
    quantizer: VectorQuantizerConfig

    def __post_init__(self) -> None:
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            text = f"image size {self.image_size} cannot be halved {len(self.multipliers) - 1} times"
            raise ValueError(text)
        if self.width % self.norm_groups:
            raise ValueError(f"width {self.width} is not divisible into {self.norm_groups} groups")

    @property
    def grid(self) -> int:
        return self.image_size >> (len(self.multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.width * multiplier for multiplier in self.multipliers)


class ResidualBlock(nn.Module):
    """Two times norm, SiLU, convolution, plus the input; where the width changes, see the trap below."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=1e-6)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, width_out, eps=1e-6)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        changes = width_in != width_out
        self.shortcut = nn.Conv2d(width_out, width_out, 1, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))  # (B, D, h, w)
        y = self.conv2(F.silu(self.norm2(y)))
        # The published weights were trained so: the shortcut reads the output, and the input is dropped.
        out: Tensor = y + (x if self.shortcut is None else self.shortcut(y))
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, in the decoder followed by a convolution after growing."""

    def __init__(self, width_in: int, width_out: int, config: VQGANConfig, grows: bool) -> None:
        super().__init__()
        widths = [width_in] + [width_out] * config.blocks
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, config.norm_groups) for a, b in pairwise(widths)))
        self.grow = nn.Conv2d(width_out, width_out, 3, padding=1) if grows else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        if self.grow is not None:
            x = self.grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # (B, D, 2h, 2w)
        return x


class Encoder(nn.Module):
    """Image in, features of the code grid out."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.levels = nn.ModuleList(Level(a, b, config, grows=False) for a, b in pairs)
        self.middle = Level(widths[-1], widths[-1], config, grows=False).blocks
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.quantizer.channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv_in(images)  # (B, D, H, W)
        for index, level in enumerate(self.levels):
            x = level(x if index == 0 else F.avg_pool2d(x, 2))  # (B, D, H/2^index, W/2^index)
        x = self.middle(x)  # (B, D, g, g)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))  # (B, C, g, g)
        return out


class Decoder(nn.Module):
    """Code grid in, image out, near [0, 1] and not clamped. `levels` are finest first, run from the last."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        pairs = zip((*widths[1:], widths[-1]), widths, strict=True)
        self.conv_in = nn.Conv2d(config.quantizer.channels, widths[-1], 3, padding=1)
        self.middle = Level(widths[-1], widths[-1], config, grows=False).blocks
        self.levels = nn.ModuleList(Level(a, b, config, grows=i > 0) for i, (a, b) in enumerate(pairs))
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.middle(self.conv_in(codes))  # (B, D, g, g)
        for level in reversed(self.levels):
            x = level(x)  # (B, D, 2h, 2w), the last (B, D, H, W)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))  # (B, 3, H, W)
        return out


class VQGAN(nn.Module):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ g² tokens. It reads no text."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = VectorQuantizer(config.quantizer)
        self.decoder = Decoder(config)

    @property
    def codebook_size(self) -> int:
        return self.config.quantizer.codebook_size

    def quantize(self, images: Tensor) -> Quantized:
        features = rearrange(self.encoder(images), "b c h w -> b (h w) c")  # (B, N, C)
        quantized: Quantized = self.quantizer(features)
        return quantized

    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        return self.quantize(images).tokens

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images clamped to [0, 1], as published; `draw` does not clamp."""
        return self.draw(tokens).clamp(0, 1)

    def draw(self, tokens: Tokens) -> Tensor:
        codes = rearrange(tokens.latents, "b (h w) c -> b c h w", h=self.config.grid)  # (B, C, g, g)
        images: Tensor = self.decoder(codes)  # (B, 3, H, W)
        return images

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens that a generator's ids (B, N) stand for."""
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        tokens, losses = self.quantize(images)
        return Reconstruction(self.draw(tokens), tokens, losses)


MASKGIT_VQGAN = VQGANConfig(  # ImageNet, 256 px: 16x16 codes
    image_size=256,
    width=128,
    multipliers=(1, 1, 2, 2, 4),
    blocks=2,
    norm_groups=32,
    quantizer=VectorQuantizerConfig(
        codebook_size=1024, channels=256, normalize=False, commitment=0.25, clustering=False
    ),
)
