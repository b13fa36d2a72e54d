"""Layers that several systems share: attention, feed-forward, transformer blocks, position tables, initialisation.

Legend: B batch · L sequence length · D width · H heads · F hidden width of a feed-forward · N positions · R times.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.nn.packed_linear import multiplier

ADAPTIVE_EPS = 1e-6  # of norms that a condition scales and shifts (adaLN)
FREQUENCIES = 256  # width of the sinusoidal embedding of a time


class PackedLinear(nn.Linear):
    """A linear layer for inputs (…, in) that is called many times in sampling.

    In inference mode it multiplies by a packed copy of its weight (nn/packed_linear.py), which is kept between calls.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            return multiplier(self.weight, self.bias)(x)  # (…, out)
        return super().forward(x)  # (…, out)


class Attention(nn.Module):
    """Multi-head self-attention over the whole sequence, (B, L, D) → (B, L, D).

    One linear layer makes queries, keys and values. Attention dropout acts in training only.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)  # (B, L, 3D)
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.heads)  # (B, H, L, D/H)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, H, L, D/H)
        out: Tensor = self.out(rearrange(x, "b h l d -> b l (h d)"))  # (B, L, D)
        return out


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU (no tanh approximation) between them, (B, L, D) → (B, L, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.up(x))  # (B, L, F)
        out: Tensor = self.down(hidden)  # (B, L, D)
        return out


class PreNormBlock(nn.Module):
    """Pre-norm transformer block, (B, L, D) → (B, L, D): x + attention(LN x), then x + mlp(LN x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))  # (B, L, D)
        x = x + self.mlp(self.norm2(x))  # (B, L, D)
        return x


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return LN(x)·(1 + scale) + shift of x (B, L, D), with shift and scale (B, 1, D); the norm has no weights."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=ADAPTIVE_EPS), 1 + scale)


class DiTBlock(nn.Module):
    """Pre-norm block; a condition shifts and scales its norms and gates its branches (adaLN-Zero, arXiv 2212.09748).

    `forward` takes the modulation, `self.modulation(condition)`, instead of the condition (B, D). It does not depend on
    x, so a sampler can compute the modulations of many steps at once.
    """

    HIDDEN = 4  # hidden width of the feed-forward over the width

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.up = nn.Linear(width, self.HIDDEN * width)
        self.down = nn.Linear(self.HIDDEN * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Return x (B, L, D) after the block, given its modulation (B, 6D)."""
        # (B, 6D) → 6 x (B, 1, D)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attention(modulated(x, shift1, scale1)))  # (B, L, D)
        hidden = F.gelu(self.up(modulated(x, shift2, scale2)), approximate="tanh")  # (B, L, 4D)
        return torch.addcmul(x, gate2, self.down(hidden))  # (B, L, D)


class TimeEmbedding(nn.Sequential):
    """Times (R,) of a diffusion or a flow → embeddings (R, D): two linear layers on sinusoids of 256 channels."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        sinusoids = sincos_1d(times, FREQUENCIES, period=10000.0).to(dtype)  # (R, 256)
        out: Tensor = super().forward(sinusoids)  # (R, D)
        return out


def sincos_1d(positions: Tensor, width: int, period: float) -> Tensor:
    """Return [cos | sin] of x·period^(-i/half), i = 0 … half-1, for each x of positions (N,): (N, width) float32.

    Here half = width/2. The angles are computed in float64.
    """
    half = width // 2
    frequencies = period ** (-torch.arange(half, dtype=torch.float64, device=positions.device) / half)
    angles = positions.to(torch.float64)[:, None] * frequencies  # (N, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(torch.float32)  # (N, width)


def sincos_2d(side: int, width: int, period: float) -> Tensor:
    """Return sinusoids of a grid's positions in row-major order: (side², width) float32.

    The first half of the channels encodes the row, the second half the column.
    """
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")  # (side, side) each
    tables = [
        sincos_1d(axis.flatten(), width // 2, period) for axis in (rows, columns)
    ]  # 2 x (side², width/2)
    return torch.cat(tables, dim=1)  # (side², width)


def init_linear(module: nn.Module, std: float | None) -> None:
    """Initialise a linear layer, convolution or embedding: weight from a truncated normal, bias 0.

    Modules of other types are left as they are. `std` None stands for fan_in^-1/2, which keeps the scale of activations
    at any width: the published 0.02 is close to it at width 1024 and far below it in a narrow model.
    """
    if not isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
        return
    nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5 if std is None else std)
    bias = getattr(module, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)


def init_packed_attention(attention: Attention, query_key_gain: float) -> None:
    """Initialise the query, key and value projection: Xavier uniform over the packed weight (3D, D).

    The query and key rows are then multiplied by sqrt(`query_key_gain`), so attention logits by `query_key_gain`.
    """
    nn.init.xavier_uniform_(attention.qkv.weight)
    scale_query_key(attention.qkv, query_key_gain)


@torch.no_grad()
def scale_query_key(qkv: nn.Linear, gain: float) -> None:
    """Multiply the query and key rows of a packed projection by sqrt(`gain`), so attention logits by `gain`."""
    qkv.weight[: 2 * qkv.in_features].mul_(math.sqrt(gain))
