"""MaskGen-VQ: text-to-image generation of discrete tokens (arXiv 2501.07730, section 4.2).

MaskGIT whose transformer is an MM-DiT over [image tokens; text states]. The head that predicts codes is the embedding
that reads them. A caption is dropped in training by giving the states of the empty one in its place, and sampling is
guided away from these.

    token ids   0 … V-1      image codes
                V            mask
                V+1 …        spare rows: 1001 in the released weights, classes once, never read

Legend: B batch · N tokens · V codebook entries · D width · A width of the embedded aesthetic score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.models.layers import init_linear, sincos_1d
from onetok.models.maskgit import MaskedGenerator
from onetok.models.mmdit import MMDiT, MMDiTConfig, Reading, TextCondition


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskGenVQConfig:
    codebook_size: int  # V
    tokens: int  # N
    spare_rows: int  # of the embedding, after codes and mask
    backbone: MMDiTConfig
    text_dropout: float  # share of training samples that see the empty caption
    init_std: float


class MaskGenVQ(MaskedGenerator):
    """Generator: captions → token ids (B, N)."""

    def __init__(self, config: MaskGenVQConfig) -> None:
        super().__init__(tokens=config.tokens, mask_id=config.codebook_size, dropout=config.text_dropout)
        self.config = config
        width = config.backbone.width
        self.embedding = nn.Embedding(config.codebook_size + 1 + config.spare_rows, width)
        self.positions = nn.Parameter(torch.empty(config.tokens, width))
        self.backbone = MMDiT(config.backbone)
        self._initialise()

    def drop(self, condition: TextCondition, rows: Tensor) -> TextCondition:
        return condition.dropped(rows)

    def with_unconditional(self, condition: TextCondition) -> TextCondition:
        return condition.with_unconditional()

    def read(self, condition: TextCondition) -> Reading:
        """Compute what depends on the condition alone."""
        aesthetic = sincos_1d(100 * condition.aesthetic, self.config.backbone.aesthetic_width, period=1000.0)
        aesthetic = aesthetic.roll(aesthetic.shape[1] // 2, dims=1)  # (B, A), [sin | cos]
        return self.backbone.read(condition.sequence, condition.pooled, aesthetic)

    def forward(self, ids: Tensor, reading: Reading) -> Tensor:
        """Return logits (B, N, V) of ids (B, N) under the reading of a condition."""
        x = self.embedding(ids) + self.positions  # (B, N, D)
        x = self.backbone(x, reading)
        return F.linear(x, self.embedding.weight[: self.config.codebook_size])  # (B, N, V)

    def _initialise(self) -> None:
        for module in self.modules():
            init_linear(module, self.config.init_std)
        nn.init.trunc_normal_(self.positions, std=self.config.init_std)
        last = self.backbone.each_block()[-1]
        for linear in (self.backbone.final_modulation, last.text.modulation):
            nn.init.zeros_(linear.weight)
