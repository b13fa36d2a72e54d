"""TiTok: an image as a short 1D sequence of tokens (arXiv 2406.07550, section 3.2).

A ViT encoder reads the patches of an image together with N learned latent tokens and keeps only the latent
tokens; a quantizer makes them discrete (VQ) or draws them from a Gaussian (KL); a ViT decoder reads them
together with one mask token per patch and keeps only the mask tokens, which become pixels. This page is the
single-stage model (released 2024-10; recipe in section 3.2 of TA-TiTok, arXiv 2501.07730); titok_two_stage.py
is the one of the paper.

Legend: B batch · H,W pixels · p patch · g = H/p patches a side · D width · N latent tokens · C token channels
        · T context tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

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
from onetok.models.quantizers import (
    Quantized,
    QuantizerConfig,
    Reconstruction,
    Tokens,
    VectorQuantizer,
    VectorQuantizerConfig,
    build_quantizer,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TiTokInit:
    """How parameters start. The papers: normal positions, gains 1 (spec: normal with std D^-1/2)."""

    linear_std: float | None  # std of linear and convolution weights, None for fan_in^-1/2
    positions: Literal["normal", "sincos"]
    position_scale: float  # std in units of D^-1/2 (normal), amplitude (sincos)
    query_key_gain: float  # factor on the product of query and key projections
    output_gain: float  # factor on the decoder's last linear layer


@dataclass(frozen=True, kw_only=True, slots=True)
class TiTokConfig:
    image_size: int  # H = W
    encoder: TransformerSize
    decoder: TransformerSize
    encoder_patch: int
    decoder_patch: int
    tokens: int  # N
    quantizer: QuantizerConfig
    init: TiTokInit

    def __post_init__(self) -> None:
        for side, patch in (("encoder", self.encoder_patch), ("decoder", self.decoder_patch)):
            if self.image_size % patch:
                raise ValueError(f"{side} patch {patch} does not divide image size {self.image_size}")


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
        self.head = nn.Linear(size.width, config.quantizer.features)

    def read(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(images), "b d h w -> b (h w) d")  # (B, g², D)
        x = torch.cat([repeat(self.class_embedding, "1 d -> b 1 d", b=len(x)), x], dim=1)  # (B, 1+g², D)
        x = x + self.positions
        latents = repeat(latent_tokens + self.latent_positions, "n d -> b n d", b=len(x))  # (B, N, D)
        x = self.norm_in(torch.cat([x, latents], dim=1))  # (B, 1+g²+N, D)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm_out(x[:, -len(latent_tokens) :])  # (B, N, D)
        return out

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.read(images, latent_tokens))  # (B, N, C), KL (B, N, 2C)
        return out


class PatchDecoder(nn.Module, ABC):
    """Latent tokens in, features of patches out, one mask token standing for each patch."""

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

    def read(self, latents: Tensor, context: Tensor | None) -> Tensor:
        latents = self.embed(latents) + self.latent_positions  # (B, N, D)
        front = repeat(self.class_embedding, "1 d -> b 1 d", b=len(latents))
        masks = repeat(self.mask_token, "1 1 d -> b n d", b=len(latents), n=self.grid**2)
        x = torch.cat([front, masks], dim=1) + self.positions  # (B, 1+g², D)
        x = torch.cat([x, latents] if context is None else [x, latents, context], dim=1)  # (B, 1+g²+N+T, D)
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm_out(x[:, 1 : 1 + self.grid**2])  # (B, g², D)
        return out

    @property
    @abstractmethod
    def output(self) -> nn.Linear:
        """The last linear layer."""


class Decoder(PatchDecoder):
    """Latent tokens in, image out; `context` (B, T, D) is read beside them."""

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__(config)
        self.patch = config.decoder_patch
        self.to_pixels = nn.Linear(config.decoder.width, 3 * self.patch**2)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    @property
    def output(self) -> nn.Linear:
        return self.to_pixels

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        x = rearrange(
            self.to_pixels(self.read(latents, context)),
            "b (h w) (p1 p2 c) -> b c (h p1) (w p2)",
            h=self.grid,
            p1=self.patch,
            p2=self.patch,
        )  # (B, 3, H, W)
        out: Tensor = self.smooth(x)
        return out


class TiTok(nn.Module):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens. `text` is for tokenizers that read it."""

    encoder_type: ClassVar[type[Encoder]] = Encoder
    decoder_type: ClassVar[type[PatchDecoder]] = Decoder

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__()
        self.config = config
        self.latent_tokens = nn.Parameter(torch.empty(config.tokens, config.encoder.width))
        self.encoder = self.encoder_type(config)
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = self.decoder_type(config)
        self._initialise(config.init)

    @property
    def codebook_size(self) -> int | None:
        """K, or None where tokens are continuous."""
        quantizer = self.config.quantizer
        return quantizer.codebook_size if isinstance(quantizer, VectorQuantizerConfig) else None

    def quantize(self, images: Tensor, generator: torch.Generator | None = None) -> Quantized:
        """Return tokens and the quantizer's losses; in training, continuous tokens are drawn from `generator`."""
        quantized: Quantized = self.quantizer(self.encoder(images, self.latent_tokens), generator)
        return quantized

    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        """Return the tokens of images (B, 3, H, W); `text` is not read here."""
        return self.quantize(images).tokens

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W) of tokens whose latents are (B, N, C); `text` is not read here."""
        images: Tensor = self.decoder(tokens.latents)
        return images

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens that a generator's ids (B, N) stand for."""
        assert isinstance(self.quantizer, VectorQuantizer), "continuous tokens have no ids"
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """Encode images (B, 3, H, W) and decode them again."""
        tokens, losses = self.quantize(images, generator)
        return Reconstruction(self.decode(tokens, text), tokens, losses)

    def _initialise(self, init: TiTokInit) -> None:
        for part in (self.encoder, self.decoder):
            for module in part.modules():
                init_linear(module, init.linear_std)
            for module in part.modules():
                if isinstance(module, Attention):
                    init_packed_attention(module, init.query_key_gain)
            width = part.class_embedding.shape[-1]
            nn.init.normal_(part.class_embedding, std=width**-0.5)
            _init_grid_positions(part.positions, init)
            init_positions(part.latent_positions, init)
        with torch.no_grad():
            self.decoder.output.weight.mul_(init.output_gain)
        nn.init.normal_(self.decoder.mask_token, std=self.config.decoder.width**-0.5)
        nn.init.normal_(self.latent_tokens, std=self.config.encoder.width**-0.5)


@torch.no_grad()
def init_positions(table: Tensor, init: TiTokInit) -> None:
    """Fill the (N, D) positions of a sequence."""
    count, width = table.shape
    if init.positions == "normal":
        nn.init.normal_(table, std=init.position_scale * width**-0.5)
    else:
        table.copy_(init.position_scale * sincos_1d(torch.arange(count), width, period=100.0))


@torch.no_grad()
def _init_grid_positions(table: Tensor, init: TiTokInit) -> None:
    """Fill the (1+g², D) positions of the class embedding and the patches."""
    if init.positions == "normal":
        init_positions(table, init)
    else:
        side = round((len(table) - 1) ** 0.5)
        table[0] = 0
        table[1:] = init.position_scale * sincos_2d(side, table.shape[1], period=100.0)


SIZES = {
    "tiny": TransformerSize(width=128, layers=2, heads=4),  # the miniature study
    "small": TransformerSize(width=512, layers=8, heads=8),
    "base": TransformerSize(width=768, layers=12, heads=12),
    "large": TransformerSize(width=1024, layers=24, heads=16),
}
