"""MaskGIT with a U-ViT: the backbone of TiTok-S-128's generator (U-ViT, arXiv 2209.12152; TiTok, arXiv 2406.07550).

Input, training and sampling are those of MaskGIT with a ViT (model.py). The outputs of the first half of the blocks are
skip connections to the second half, last in, first out. There is one more block in the middle, so a config with
`layers` layers has layers + 1 blocks.

Legend: B batch · N tokens · V codebook entries · D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onetok.nn.layers import Attention, FeedForward
from onetok.systems.maskgit.model import ClassConditional
from onetok.systems.maskgit.schema import UViTConfig


class Branches(nn.Module):
    """The two residual branches of a block: x + attention(LN x), then x + mlp(LN x), each with dropout at its end.

    Queries, keys and values have no bias. TiTok-S-128's generator was trained without dropout in its blocks, both of
    the branches and of the attention.
    """

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads, config.attention_dropout, qkv_bias=False)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = FeedForward(config.width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def add_to(self, x: Tensor) -> Tensor:
        """Return x (B, 1+N, D) after both branches."""
        x = x + self.dropout(self.attention(self.norm1(x)))  # (B, 1+N, D)
        x = x + self.dropout(self.mlp(self.norm2(x)))  # (B, 1+N, D)
        return x


class PreNormBlock(Branches):
    """A block of the first half or the middle."""

    def forward(self, x: Tensor) -> Tensor:
        return self.add_to(x)  # (B, 1+N, D)


class SkipBlock(Branches):
    """A block of the second half, whose input is a linear projection of [x, skip]."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__(config)
        self.skip = nn.Linear(2 * config.width, config.width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.add_to(self.skip(torch.cat([x, skip], dim=-1)))  # (B, 1+N, 2D) → (B, 1+N, D)


class MaskGITUViT(ClassConditional):
    """MaskGIT with a U-ViT backbone: ids (B, N) and labels (B,) → logits (B, N, V)."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__(config)
        half = config.layers // 2
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(1 + config.tokens, config.width))
        self.down = nn.ModuleList(PreNormBlock(config) for _ in range(half))
        self.middle = PreNormBlock(config)
        self.up = nn.ModuleList(SkipBlock(config) for _ in range(half))
        self.norm_out = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.codebook_size)
        self._initialise()

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = self.embedding(self.with_class(ids, labels)) + self.positions  # (B, 1+N, D)
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)  # (B, 1+N, D)
            skips.append(x)
        x = self.middle(x)  # (B, 1+N, D)
        for block in self.up:
            x = block(x, skips.pop())  # (B, 1+N, D)
        logits: Tensor = self.head(self.norm_out(x[:, 1:]))  # (B, N, V)
        return logits

    def _initialise(self) -> None:
        std = self.config.init_std
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=std)
