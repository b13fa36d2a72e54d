"""TiTok: an image as a short 1D sequence of tokens (arXiv 2406.07550, section 3.2).

A ViT encoder reads the patches of an image together with N learned latent tokens and keeps only the latent tokens;
a quantizer makes them discrete; a ViT decoder reads them together with one mask token per patch and keeps only the
mask tokens, which become pixels. This page is the single-stage model (released 2024-10; recipe in section 3.2 of
TA-TiTok, arXiv 2501.07730).

Legend: B batch · H,W pixels · p patch · g = H/p patches a side · D width · N latent tokens · C token channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from onetok.models.layers import (
    Attention,
    PreNormBlock,
    TransformerSize,
    init_linear,
    init_packed_attention,
    sincos_1d,
    sincos_2d,
)
from onetok.models.quantizers import Quantized, Tokens, VectorQuantizer, VectorQuantizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TiTokInit:
    """How parameters start. The papers: normal positions, gain 1 (spec: normal with std D^-1/2)."""

    linear_std: float | None  # std of linear and convolution weights, None for fan_in^-1/2
    positions: Literal["normal", "sincos"]
    position_scale: float  # std in units of D^-1/2 (normal), amplitude (sincos)
    query_key_gain: float  # factor on the product of query and key projections


@dataclass(frozen=True, kw_only=True, slots=True)
class TiTokConfig:
    image_size: int  # H = W
    encoder: TransformerSize
    decoder: TransformerSize
    encoder_patch: int
    decoder_patch: int
    tokens: int  # N
    quantizer: VectorQuantizerConfig
    init: TiTokInit

    def __post_init__(self) -> None:
        for side, patch in (("encoder", self.encoder_patch), ("decoder", self.decoder_patch)):
            if self.image_size % patch:
                raise ValueError(f"{side} patch {patch} does not divide image size {self.image_size}")


class Reconstruction(NamedTuple):
    images: Tensor  # (B, 3, H, W), near [0, 1], not clamped
    tokens: Tokens
    losses: dict[str, Tensor]  # the quantizer's terms


class Encoder(nn.Module):
    """Image and latent tokens in, latent tokens out."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        size, grid = config.encoder, config.image_size // config.encoder_patch
        self.patch_embed = nn.Conv2d(3, size.width, config.encoder_patch, config.encoder_patch)
        self.class_embedding = nn.Parameter(torch.empty(1, size.width))
        self.positions = nn.Parameter(torch.empty(1 + grid**2, size.width))
        self.latent_positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(PreNormBlock(size.width, size.heads) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, config.quantizer.channels)

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(images), "b d h w -> b (h w) d")  # (B, g², D)
        x = torch.cat([repeat(self.class_embedding, "1 d -> b 1 d", b=len(x)), x], dim=1)  # (B, 1+g², D)
        x = x + self.positions
        latents = repeat(latent_tokens + self.latent_positions, "n d -> b n d", b=len(x))  # (B, N, D)
        x = self.norm_in(torch.cat([x, latents], dim=1))  # (B, 1+g²+N, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm_out(x[:, -len(latent_tokens) :])  # (B, N, D)
        out: Tensor = self.head(x)  # (B, N, C)
        return out


class Decoder(nn.Module):
    """Latent tokens in, image out, one mask token standing for each patch."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        size, self.patch = config.decoder, config.decoder_patch
        self.grid = config.image_size // config.decoder_patch
        self.embed = nn.Linear(config.quantizer.channels, size.width)
        self.latent_positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.class_embedding = nn.Parameter(torch.empty(1, size.width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.positions = nn.Parameter(torch.empty(1 + self.grid**2, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(PreNormBlock(size.width, size.heads) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)
        self.to_pixels = nn.Linear(size.width, 3 * self.patch**2)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        latents = self.embed(latents) + self.latent_positions  # (B, N, D)
        front = repeat(self.class_embedding, "1 d -> b 1 d", b=len(latents))
        masks = repeat(self.mask_token, "1 1 d -> b n d", b=len(latents), n=self.grid**2)
        x = torch.cat([front, masks], dim=1) + self.positions  # (B, 1+g², D)
        x = self.norm_in(torch.cat([x, latents], dim=1))  # (B, 1+g²+N, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm_out(x[:, 1 : 1 + self.grid**2])  # (B, g², D)
        x = rearrange(
            self.to_pixels(x),
            "b (h w) (p1 p2 c) -> b c (h p1) (w p2)",
            h=self.grid,
            p1=self.patch,
            p2=self.patch,
        )  # (B, 3, H, W)
        out: Tensor = self.smooth(x)
        return out


class TiTok(nn.Module):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_tokens = nn.Parameter(torch.empty(config.tokens, config.encoder.width))
        self.encoder = Encoder(config)
        self.quantizer = VectorQuantizer(config.quantizer)
        self.decoder = Decoder(config)
        self._initialise(config.init)

    @property
    def codebook_size(self) -> int:
        return self.config.quantizer.codebook_size

    def quantize(self, images: Tensor) -> Quantized:
        quantized: Quantized = self.quantizer(self.encoder(images, self.latent_tokens))
        return quantized

    def encode(self, images: Tensor) -> Tokens:
        return self.quantize(images).tokens

    def decode(self, tokens: Tokens) -> Tensor:
        images: Tensor = self.decoder(tokens.latents)
        return images

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens that a generator's ids (B, N) stand for."""
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(self, images: Tensor) -> Reconstruction:
        tokens, losses = self.quantize(images)
        return Reconstruction(self.decode(tokens), tokens, losses)

    def _initialise(self, init: TiTokInit) -> None:
        for part in (self.encoder, self.decoder):
            for module in part.modules():
                init_linear(module, init.linear_std)
            for module in part.modules():
                if isinstance(module, Attention):
                    init_packed_attention(module, init.query_key_gain)
            width = part.class_embedding.shape[-1]
            nn.init.normal_(part.class_embedding, std=width**-0.5)
            _init_positions(part.positions, part.latent_positions, init)
        nn.init.normal_(self.decoder.mask_token, std=self.config.decoder.width**-0.5)
        nn.init.normal_(self.latent_tokens, std=self.config.encoder.width**-0.5)


@torch.no_grad()
def _init_positions(positions: Tensor, latent_positions: Tensor, init: TiTokInit) -> None:
    width = positions.shape[-1]
    if init.positions == "normal":
        for table in (positions, latent_positions):
            nn.init.normal_(table, std=init.position_scale * width**-0.5)
        return
    grid = round((len(positions) - 1) ** 0.5)
    positions[0] = 0
    positions[1:] = init.position_scale * sincos_2d(grid, width, period=100.0)
    rows = torch.arange(len(latent_positions))
    latent_positions.copy_(init.position_scale * sincos_1d(rows, width, period=100.0))


SIZES = {
    "tiny": TransformerSize(width=128, layers=2, heads=4),  # the miniature study
    "small": TransformerSize(width=512, layers=8, heads=8),
    "base": TransformerSize(width=768, layers=12, heads=12),
    "large": TransformerSize(width=1024, layers=24, heads=16),
}
