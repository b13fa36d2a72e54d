"""TiTok: an image as a short 1D sequence of tokens (arXiv 2406.07550, section 3.2).

The input of the ViT encoder is the patches of an image and N learned latent tokens; only the latent tokens of its
output are kept. A quantizer makes them discrete (VQ), or a Gaussian posterior continuous (KL). The input of the ViT
decoder is one mask token for each patch and the latent tokens; only the mask tokens of its output are kept and become
pixels. This module is the single-stage model (released in October 2024; recipe in section 3.2 of TA-TiTok, arXiv
2501.07730); two_stage.py is the model of the paper.

Legend: B batch · H,W pixels · p patch · g = H/p patches a side · D width · N latent tokens · C token channels
        · T context tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from onetok.nn.layers import (
    Attention,
    PreNormBlock,
    init_linear,
    init_packed_attention,
    sincos_1d,
    sincos_2d,
)
from onetok.nn.protocols import Tokenizer
from onetok.nn.quantizers import Quantized, Reconstruction, Tokens, VectorQuantizer, build_quantizer
from onetok.study.schema.architecture import VectorQuantizerConfig
from onetok.systems.titok.schema import TiTokConfig, TiTokInit


class LatentEncoder(nn.Module, ABC):
    """Images (B, 3, H, W) in [0, 1] and learned latent tokens (N, D) → features of N tokens for the quantizer."""

    @abstractmethod
    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        """Return features (B, N, C) for VQ, (B, N, 2C) for KL, of images (B, 3, H, W) and latent tokens (N, D)."""

    @abstractmethod
    def initialise(self, init: TiTokInit) -> None:
        """Initialise all parameters."""


class LatentDecoder(nn.Module, ABC):
    """Latents (B, N, C) and optional context tokens (B, T, D) → images (B, 3, H, W), or predictions for each patch."""

    grid: int  # g

    @abstractmethod
    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W), near [0, 1], or logits of codes (B, g², V), of latents (B, N, C)."""

    @abstractmethod
    def initialise(self, init: TiTokInit) -> None:
        """Initialise all parameters."""


class Encoder(LatentEncoder):
    """TiTok's encoder: a ViT whose patches and latent tokens have learned positions."""

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
        self.head = nn.Linear(size.width, config.quantizer.features)

    def transform(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(images), "b d h w -> b (h w) d")  # (B, g², D)
        x = torch.cat([repeat(self.class_embedding, "1 d -> b 1 d", b=len(x)), x], dim=1)  # (B, 1+g², D)
        x = x + self.positions  # (B, 1+g², D)
        latents = repeat(latent_tokens + self.latent_positions, "n d -> b n d", b=len(x))  # (B, N, D)
        x = self.norm_in(torch.cat([x, latents], dim=1))  # (B, 1+g²+N, D)
        for block in self.blocks:
            x = block(x)  # (B, 1+g²+N, D)
        out: Tensor = self.norm_out(x[:, -len(latent_tokens) :])  # (B, N, D)
        return out

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.transform(images, latent_tokens))  # (B, N, C) for VQ, (B, N, 2C) for KL
        return out

    def initialise(self, init: TiTokInit) -> None:
        _init_transformer(self, init)


class PatchDecoder(LatentDecoder):
    """Latents (B, N, C) and optional context tokens (B, T, D) → features of the patches (B, g², D)."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        size, self.grid = config.decoder, config.image_size // config.decoder_patch
        self.embed = nn.Linear(config.quantizer.channels, size.width)
        self.latent_positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.class_embedding = nn.Parameter(torch.empty(1, size.width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.positions = nn.Parameter(torch.empty(1 + self.grid**2, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(PreNormBlock(size.width, size.heads) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)

    def transform(self, latents: Tensor, context: Tensor | None) -> Tensor:
        latents = self.embed(latents) + self.latent_positions  # (B, N, D)
        front = repeat(self.class_embedding, "1 d -> b 1 d", b=len(latents))  # (B, 1, D)
        masks = repeat(self.mask_token, "1 1 d -> b n d", b=len(latents), n=self.grid**2)  # (B, g², D)
        x = torch.cat([front, masks], dim=1) + self.positions  # (B, 1+g², D)
        x = torch.cat([x, latents] if context is None else [x, latents, context], dim=1)  # (B, 1+g²+N+T, D)
        x = self.norm_in(x)  # (B, 1+g²+N+T, D)
        for block in self.blocks:
            x = block(x)  # (B, 1+g²+N+T, D)
        out: Tensor = self.norm_out(x[:, 1 : 1 + self.grid**2])  # (B, g², D)
        return out

    @property
    @abstractmethod
    def output(self) -> nn.Linear:
        """The last linear layer, whose initial weights are scaled by `output_gain`."""

    def initialise(self, init: TiTokInit) -> None:
        _init_transformer(self, init)
        with torch.no_grad():
            self.output.weight.mul_(init.output_gain)
        nn.init.normal_(self.mask_token, std=self.mask_token.shape[-1] ** -0.5)


class Decoder(PatchDecoder):
    """Latents (B, N, C) and optional context tokens (B, T, D) → images (B, 3, H, W), near [0, 1], not clamped."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__(config)
        self.patch = config.decoder_patch
        self.to_pixels = nn.Linear(config.decoder.width, 3 * self.patch**2)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    @property
    def output(self) -> nn.Linear:
        return self.to_pixels

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.to_pixels(self.transform(latents, context))  # (B, g², 3p²)
        out: Tensor = self.smooth(join_patches(x, self.grid, self.patch))  # (B, 3, H, W)
        return out


def join_patches(x: Tensor, grid: int, patch: int) -> Tensor:
    """Return the images (B, 3, H, W) of which x (B, g², 3p²) has the pixels, patch by patch."""
    return rearrange(x, "b (h w) (p1 p2 c) -> b c (h p1) (w p2)", h=grid, p1=patch, p2=patch)  # (B, 3, H, W)


class TiTok(Tokenizer):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens. It ignores `text`, which subclasses may use."""

    encoder_type: ClassVar[type[LatentEncoder]] = Encoder
    decoder_type: ClassVar[type[LatentDecoder]] = Decoder

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_tokens = nn.Parameter(torch.empty(config.tokens, config.encoder.width))
        self.encoder = self.encoder_type(config)
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = self.decoder_type(config)
        self._initialise(config.init)

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def channels(self) -> int:
        return self.config.quantizer.channels

    @property
    def codebook_size(self) -> int | None:
        """K, or None where tokens are continuous."""
        quantizer = self.config.quantizer
        return quantizer.codebook_size if isinstance(quantizer, VectorQuantizerConfig) else None

    def quantize(self, images: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Return the tokens of images (B, 3, H, W) and the quantizer's losses.

        In training, continuous tokens are sampled with `generator`.
        """
        quantized: Quantized = self.quantizer(self.encoder(images, self.latent_tokens), generator)
        return quantized

    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        """Return the tokens of images (B, 3, H, W) float32 in [0, 1]; `text` is ignored."""
        return self.quantize(images).tokens

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W), near [0, 1], of tokens with latents (B, N, C); `text` is ignored."""
        images: Tensor = self.decoder(tokens.latents)  # (B, 3, H, W)
        return images

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens, with latents (B, N, C), of ids (B, N) int64 in [0, K)."""
        assert isinstance(self.quantizer, VectorQuantizer), "continuous tokens have no ids"
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """Encode images (B, 3, H, W) float32 in [0, 1] and decode them again."""
        tokens, losses = self.quantize(images, generator)
        return Reconstruction(self.decode(tokens, text), tokens, losses)

    def _initialise(self, init: TiTokInit) -> None:
        self.encoder.initialise(init)
        self.decoder.initialise(init)
        nn.init.normal_(self.latent_tokens, std=self.config.encoder.width**-0.5)


def _init_transformer(part: Encoder | PatchDecoder, init: TiTokInit) -> None:
    """Initialise the layers, the class embedding and the positions of an encoder or a decoder."""
    for module in part.modules():
        init_linear(module, init.linear_std)
    for module in part.modules():
        if isinstance(module, Attention):
            init_packed_attention(module, init.query_key_gain)
    nn.init.normal_(part.class_embedding, std=part.class_embedding.shape[-1] ** -0.5)
    _init_grid_positions(part.positions, init)
    init_positions(part.latent_positions, init)


@torch.no_grad()
def init_positions(table: Tensor, init: TiTokInit) -> None:
    """Initialise the position embeddings (N, D) of a sequence."""
    count, width = table.shape
    if init.positions == "normal":
        nn.init.normal_(table, std=init.position_scale * width**-0.5)
    else:
        table.copy_(init.position_scale * sincos_1d(torch.arange(count), width, period=100.0))


@torch.no_grad()
def _init_grid_positions(table: Tensor, init: TiTokInit) -> None:
    """Initialise the position embeddings (1+g², D) of the class embedding and the patches."""
    if init.positions == "normal":
        init_positions(table, init)
    else:
        side = round((len(table) - 1) ** 0.5)
        table[0] = 0
        table[1:] = init.position_scale * sincos_2d(side, table.shape[1], period=100.0)
