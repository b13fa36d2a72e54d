"""MaskGIT: class-conditional generation of token sequences (arXiv 2202.04200; TiTok, arXiv 2406.07550).

A bidirectional transformer takes the sequence [class, tokens] with some tokens masked and predicts all tokens. Sampling
starts from masks alone and keeps the most confident predictions of each step. The training loss and the sampling loop
of all masked generators are in nn/masked_generator.py. This module has the class condition and the ViT backbone, which
is a BERT; the U-ViT backbone is in uvit.py.

    token ids   0 … V-1      image codes
                V            mask
                V+1 … V+K    classes
                V+1+K        the null class, for guidance

Legend: B batch · N tokens · L sequence length, here 1+N · V codebook entries · K classes · D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onetok.nn.layers import Attention, FeedForward
from onetok.nn.masked_generator import MaskedGenerator
from onetok.systems.maskgit.schema import MaskGITConfig


class ClassConditional(MaskedGenerator):
    """Class-conditional generator: labels (B,) int64 → token ids (B, N). A subclass adds its backbone and `forward`."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(mask_id=config.mask_id, dropout=config.class_dropout)
        self.config = config

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def classes(self) -> int:
        return self.config.classes

    def drop(self, condition: Tensor, rows: Tensor) -> Tensor:
        null_class = self.config.classes  # one past the last class
        return torch.where(rows, null_class, condition)  # (B,)

    def with_unconditional(self, condition: Tensor) -> Tensor:
        return torch.cat([condition, torch.full_like(condition, self.config.classes)])  # (2B,)

    def with_class(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return the backbone's input (B, 1+N): the id of labels (B,), K being the null class, then ids (B, N)."""
        return torch.cat([labels[:, None] + self.config.codebook_size + 1, ids], dim=1)  # (B, 1+N)


class PostNormBlock(nn.Module):
    """The post-norm block of BERT (arXiv 1810.04805): LN(x + attention x), then LN(x + mlp x)."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.attention_dropout)
        self.norm1 = nn.LayerNorm(config.width, eps=1e-12)
        self.mlp = FeedForward(config.width, config.hidden)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x)))  # (B, L, D)
        x = self.norm2(x + self.dropout(self.mlp(x)))  # (B, L, D)
        return x


class MaskGIT(ClassConditional):
    """MaskGIT with a ViT backbone: ids (B, N) and labels (B,) → logits (B, N, V)."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(1 + config.tokens, config.width))
        self.token_type = nn.Parameter(torch.empty(config.width))
        self.norm_in = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.codebook_size)
        self._initialise()

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = self.word_embedding(self.with_class(ids, labels))  # (B, 1+N, D)
        x = self.dropout(self.norm_in(x + self.positions + self.token_type))  # (B, 1+N, D)
        for block in self.blocks:
            x = block(x)  # (B, 1+N, D)
        logits: Tensor = self.head(x[:, 1:])  # (B, N, V)
        return logits

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=self.config.init_std)
        nn.init.normal_(self.token_type, std=self.config.init_std)
