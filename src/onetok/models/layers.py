"""Layers that several systems share: attention, feed-forward, pre-norm block, position tables.

Legend: B batch · L sequence length · D width · H heads · g side of the patch grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.sampling.packing import multiplier


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerSize:
    width: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")


class PackedLinear(nn.Linear):
    """A linear layer that in inference multiplies by a packed copy of its weight, for layers called many times."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            return multiplier(self.weight, self.bias)(x)
        return super().forward(x)


class Attention(nn.Module):
    """Full multi-head self-attention with packed query, key and value projections."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, H, L, D/H)
        out: Tensor = self.out(rearrange(x, "b h l d -> b l (h d)"))  # (B, L, D)
        return out


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


class PreNormBlock(nn.Module):
    """Pre-norm transformer block: x + attention(LN x), then x + mlp(LN x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


def sincos_1d(positions: Tensor, width: int, period: float) -> Tensor:
    """Return [cos | sin] sinusoids of `positions`: (N,) → (N, width), float32."""
    half = width // 2
    frequencies = period ** (-torch.arange(half, dtype=torch.float64, device=positions.device) / half)
    angles = positions.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(torch.float32)


def sincos_2d(side: int, width: int, period: float) -> Tensor:
    """Return a (side², width) table: half of the channels turn with the row, half with the column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    tables = [sincos_1d(axis.flatten(), width // 2, period) for axis in (rows, columns)]
    return torch.cat(tables, dim=1)


def init_linear(module: nn.Module, std: float | None) -> None:
    """Fill linear, convolution and embedding weights with a truncated normal, their biases with 0.

    `std` None stands for fan_in^-1/2, which keeps the scale of activations at any width: the published 0.02 is
    close to it at width 1024 and far below it in a narrow model.
    """
    if not isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
        return
    nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5 if std is None else std)
    bias = getattr(module, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)


def init_packed_attention(attention: Attention, query_key_gain: float) -> None:
    """Fill the packed projection with Xavier uniform, queries and keys times sqrt(`query_key_gain`)."""
    nn.init.xavier_uniform_(attention.qkv.weight)
    with torch.no_grad():
        attention.qkv.weight[: 2 * attention.out.in_features].mul_(math.sqrt(query_key_gain))
