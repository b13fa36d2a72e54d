"""FlowTok's image tokenizer, named FlowTiTok in its release: 77 tokens of 16 channels (arXiv 2503.10772, section 3.1).

This is TA-TiTok with a KL quantizer, as many tokens as CLIP has text states, and other transformer blocks: the only
position information of patches and mask tokens is a rotary embedding of their queries and keys, and the feed-forward is
gated (SwiGLU). There is no class token. Latent tokens and text states have learned positions and no rotary embedding.
The tensors do not depend on the size of the image, so models for 256 and 512 px have the same released layout.

Legend: B batch · H,W pixels · p patch · g = H/p patches a side · D width · h heads · d = D/h channels of a head
        · N latent tokens · C token channels · T text states · L sequence length, patches first
        · F hidden width of the feed-forward.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from onetok.nn.layers import init_linear, scale_query_key
from onetok.study.schema.architecture import TransformerSize
from onetok.systems.flowtok.schema import FlowTiTokConfig
from onetok.systems.tatitok.model import CaptionedTiTok
from onetok.systems.titok.model import LatentDecoder, LatentEncoder, init_positions, join_patches
from onetok.systems.titok.schema import TiTokInit

PERIOD = 10000.0


class RotaryEmbedding(nn.Module):
    """The 2D rotary position embedding of queries or keys (B, h, L, d), of which the first g² belong to patches.

    The first half of a head's channels is rotated by the patch's row, the second half by its column. In each half, the
    pair of channels 2i and 2i+1 is rotated by the angle row · 10000^(-2i/(d/2)), or column, i = 0 … d/4-1.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        frequencies = PERIOD ** (-4 * torch.arange(channels // 4, dtype=torch.float64) / channels)
        angles = torch.arange(side)[:, None] * frequencies  # (g, d/4)
        rows = repeat(angles, "h f -> (h w) f", w=side)  # (g², d/4)
        columns = repeat(angles, "w f -> (h w) f", h=side)  # (g², d/4)
        angles = torch.cat([rows, columns], dim=1).repeat_interleave(2, dim=1)  # (g², d)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, h, L, d) with the rotary embedding in its first g² sequence positions."""
        patches, others = x.tensor_split([len(self.cos)], dim=2)  # (B, h, g², d), (B, h, L-g², d)
        even, odd = patches[..., 0::2], patches[..., 1::2]  # (B, h, g², d/2) each
        quarter = torch.stack([-odd, even], dim=-1).flatten(-2)  # (B, h, g², d), each pair rotated by 90°
        rotated = patches * self.cos + quarter * self.sin  # (B, h, g², d)
        return torch.cat([rotated.to(x.dtype), others], dim=2)  # (B, h, L, d)


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary embedding, (B, L, D) → (B, L, D)."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)

    def forward(self, x: Tensor, rotary: RotaryEmbedding) -> Tensor:
        # (B, L, 3D) → 3 x (B, h, L, d)
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        x = F.scaled_dot_product_attention(rotary(q), rotary(k), v)  # (B, h, L, d)
        out: Tensor = self.out(rearrange(x, "b h l d -> b l (h d)"))  # (B, L, D)
        return out


class SwiGLU(nn.Module):
    """Gated feed-forward (arXiv 2002.05202), (B, L, D) → (B, L, D): F hidden channels, times the SiLU of F others.

    F is 2/3 of 4D, rounded down.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 2 * 4 * width // 3
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)  # (B, L, F) each
        out: Tensor = self.down(F.silu(gate) * value)  # (B, L, D)
        return out


class RotaryBlock(nn.Module):
    """Pre-norm transformer block, (B, L, D) → (B, L, D): x + attention(LN x), then x + mlp(LN x)."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width)
        self.attention = RotaryAttention(size)
        self.norm2 = nn.LayerNorm(size.width)
        self.mlp = SwiGLU(size.width)

    def forward(self, x: Tensor, rotary: RotaryEmbedding) -> Tensor:
        x = x + self.attention(self.norm1(x), rotary)  # (B, L, D)
        x = x + self.mlp(self.norm2(x))  # (B, L, D)
        return x


class RotaryEncoder(LatentEncoder):
    """Images (B, 3, H, W) in [0, 1] and learned latent tokens (N, D) → means and log-variances (B, N, 2C)."""

    def __init__(self, config: FlowTiTokConfig) -> None:
        super().__init__()
        size = config.encoder
        self.rotary = RotaryEmbedding(config.image_size // config.encoder_patch, size.width // size.heads)
        self.patch_embed = nn.Conv2d(3, size.width, config.encoder_patch, config.encoder_patch)
        self.latent_positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(RotaryBlock(size) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, config.quantizer.features)

    def forward(self, images: Tensor, latent_tokens: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(images), "b d h w -> b (h w) d")  # (B, g², D)
        latents = repeat(latent_tokens + self.latent_positions, "n d -> b n d", b=len(x))  # (B, N, D)
        x = self.norm_in(torch.cat([x, latents], dim=1))  # (B, g²+N, D)
        for block in self.blocks:
            x = block(x, self.rotary)  # (B, g²+N, D)
        out: Tensor = self.head(self.norm_out(x[:, -len(latent_tokens) :]))  # (B, N, 2C)
        return out

    def initialise(self, init: TiTokInit) -> None:
        _init_transformer(self, init)


class RotaryDecoder(LatentDecoder):
    """Latents (B, N, C) and context tokens (B, T, D) → images (B, 3, H, W), near [0, 1], not clamped."""

    def __init__(self, config: FlowTiTokConfig) -> None:
        super().__init__()
        size, self.patch = config.decoder, config.decoder_patch
        self.grid = config.image_size // self.patch
        self.rotary = RotaryEmbedding(self.grid, size.width // size.heads)
        self.embed = nn.Linear(config.quantizer.channels, size.width)
        self.latent_positions = nn.Parameter(torch.empty(config.tokens, size.width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, size.width))
        self.norm_in = nn.LayerNorm(size.width)
        self.blocks = nn.ModuleList(RotaryBlock(size) for _ in range(size.layers))
        self.norm_out = nn.LayerNorm(size.width)
        self.to_pixels = nn.Linear(size.width, 3 * self.patch**2)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None, "FlowTok's tokenizer decodes with text"
        masks = repeat(self.mask_token, "1 1 d -> b n d", b=len(latents), n=self.grid**2)  # (B, g², D)
        latents = self.embed(latents) + self.latent_positions  # (B, N, D)
        x = self.norm_in(torch.cat([masks, latents, context], dim=1))  # (B, g²+N+T, D)
        for block in self.blocks:
            x = block(x, self.rotary)  # (B, g²+N+T, D)
        x = self.to_pixels(self.norm_out(x[:, : self.grid**2]))  # (B, g², 3p²)
        out: Tensor = self.smooth(join_patches(x, self.grid, self.patch))  # (B, 3, H, W)
        return out

    def initialise(self, init: TiTokInit) -> None:
        _init_transformer(self, init)
        with torch.no_grad():
            self.to_pixels.weight.mul_(init.output_gain)
        nn.init.normal_(self.mask_token, std=self.mask_token.shape[-1] ** -0.5)


class FlowTiTok(CaptionedTiTok):
    """Tokenizer: images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, given text states (B, T, S) to decode."""

    encoder_type: ClassVar[type[LatentEncoder]] = RotaryEncoder
    decoder_type: ClassVar[type[LatentDecoder]] = RotaryDecoder

    def __init__(self, config: FlowTiTokConfig) -> None:
        super().__init__(config)
        self.config: FlowTiTokConfig = config
        init_linear(self.text.projection, config.init.linear_std)


def _init_transformer(part: RotaryEncoder | RotaryDecoder, init: TiTokInit) -> None:
    """Initialise the layers and the positions of an encoder or a decoder; attention as all other linear layers."""
    for module in part.modules():
        init_linear(module, init.linear_std)
    for module in part.modules():
        if isinstance(module, RotaryAttention):
            scale_query_key(module.qkv, init.query_key_gain)
    init_positions(part.latent_positions, init)
