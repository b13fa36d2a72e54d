"""MaskGIT-VQGAN: an image as a 2D grid of codes (VQGAN, arXiv 2012.09841, as in MaskGIT, arXiv 2202.04200).

A convolutional encoder halves the sides of its feature map level by level, a quantizer replaces each vector of the last
feature map by its nearest codebook entry, and a mirrored decoder reconstructs the image. There is no attention. RAR
generates these codes. Two-stage TiTok is trained to predict them, and contains the codebook and the decoder as its last
step.

Legend: B batch · H,W pixels · h,w sides of a feature map · g = H/2^(levels-1) sides of the code grid · N = g² tokens,
        row by row · C code channels · D width of a level.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.nn.protocols import Tokenizer
from onetok.nn.quantizers import Quantized, Reconstruction, Tokens, VectorQuantizer
from onetok.systems.vqgan.schema import VQGANConfig


class ResidualBlock(nn.Module):
    """Two times (norm, SiLU, convolution), plus a shortcut: (B, D, h, w) → (B, D', h, w).

    The shortcut is the input if D' = D. If the width changes, it is not, as the comment in `forward` explains.
    """

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=1e-6)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, width_out, eps=1e-6)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        changes = width_in != width_out
        self.shortcut = nn.Conv2d(width_out, width_out, 1, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))  # (B, D', h, w)
        y = self.conv2(F.silu(self.norm2(y)))  # (B, D', h, w)
        # As the published weights were trained: the shortcut is applied to the output, and the input is not added.
        out: Tensor = y + (x if self.shortcut is None else self.shortcut(y))  # (B, D', h, w)
        return out


class Level(nn.Module):
    """The residual blocks of one resolution; in the decoder followed by upsampling by 2 and a convolution."""

    def __init__(self, width_in: int, width_out: int, config: VQGANConfig, grows: bool) -> None:
        super().__init__()
        widths = [width_in] + [width_out] * config.blocks
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, config.norm_groups) for a, b in pairwise(widths)))
        self.grow = nn.Conv2d(width_out, width_out, 3, padding=1) if grows else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)  # (B, D, h, w)
        if self.grow is not None:
            x = self.grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # (B, D, 2h, 2w)
        return x


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] → features (B, C, g, g)."""

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
    """Code vectors (B, C, g, g) → images (B, 3, H, W), near [0, 1], not clamped.

    `levels` are ordered from the finest to the coarsest resolution and applied from the last to the first.
    """

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
            x = level(x)  # (B, D, 2h, 2w), but (B, D, H, W) at the finest level, which does not upsample
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))  # (B, 3, H, W)
        return out


class VQGAN(Tokenizer):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N = g² tokens. It ignores `text`."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = VectorQuantizer(config.quantizer)
        self.decoder = Decoder(config)

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def tokens(self) -> int:
        return self.config.grid**2

    @property
    def channels(self) -> int:
        return self.config.quantizer.channels

    @property
    def codebook_size(self) -> int:
        return self.config.quantizer.codebook_size

    def quantize(self, images: Tensor) -> Quantized:
        """Return the tokens of images (B, 3, H, W) and the quantizer's losses."""
        features = rearrange(self.encoder(images), "b c h w -> b (h w) c")  # (B, N, C)
        quantized: Quantized = self.quantizer(features)
        return quantized

    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        return self.quantize(images).tokens

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W) of tokens with latents (B, N, C), clamped to [0, 1] as in the published model."""
        return self.draw(tokens).clamp(0, 1)

    def draw(self, tokens: Tokens) -> Tensor:
        """Return images (B, 3, H, W) of tokens with latents (B, N, C), not clamped, for training losses."""
        codes = rearrange(tokens.latents, "b (h w) c -> b c h w", h=self.config.grid)  # (B, C, g, g)
        images: Tensor = self.decoder(codes)  # (B, 3, H, W)
        return images

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens, with latents (B, N, C), of ids (B, N) int64."""
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        tokens, losses = self.quantize(images)
        return Reconstruction(self.draw(tokens), tokens, losses)
