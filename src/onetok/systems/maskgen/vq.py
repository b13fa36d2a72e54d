"""MaskGen-VQ: text-to-image generation of discrete tokens (arXiv 2501.07730, section 4.2).

MaskGIT with an MM-DiT over [image tokens; text states] as its transformer. The output head that predicts codes is tied
to the embedding of codes. In training, a dropped caption is replaced by the empty caption, whose states are also the
null condition of guidance.

    token ids   0 … V-1      image codes
                V            mask
                V+1 …        unused rows, 1001 in the released weights, where class-conditional generators have classes

Legend: B batch · N tokens · V codebook entries · D width · A width of the embedded aesthetic score.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.nn.layers import init_linear, sincos_1d
from onetok.nn.masked_generator import MaskedGenerator
from onetok.nn.protocols import TextWidths
from onetok.nn.text_condition import TextCondition
from onetok.systems.maskgen.mmdit import EmbeddedCondition, MMDiT
from onetok.systems.maskgen.schema import MaskGenVQConfig


class MaskGenVQ(MaskedGenerator):
    """Text-to-image generator: the TextCondition of B captions → token ids (B, N)."""

    def __init__(self, config: MaskGenVQConfig) -> None:
        super().__init__(mask_id=config.codebook_size, dropout=config.text_dropout)
        self.config = config
        width = config.backbone.width
        self.embedding = nn.Embedding(config.codebook_size + 1 + config.spare_rows, width)
        self.positions = nn.Parameter(torch.empty(config.tokens, width))
        self.backbone = MMDiT(config.backbone)
        self._initialise()

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def text_widths(self) -> TextWidths:
        backbone = self.config.backbone
        return TextWidths(backbone.text_width, backbone.pooled_width, None)

    def drop(self, condition: TextCondition, rows: Tensor) -> TextCondition:
        return condition.dropped(rows)

    def with_unconditional(self, condition: TextCondition) -> TextCondition:
        return condition.with_unconditional()

    def embed_condition(self, condition: TextCondition) -> EmbeddedCondition:
        """Return the embedded condition, which does not depend on image tokens and is computed once in sampling."""
        aesthetic = sincos_1d(100 * condition.aesthetic, self.config.backbone.aesthetic_width, period=1000.0)
        aesthetic = aesthetic.roll(aesthetic.shape[1] // 2, dims=1)  # (B, A), [sin | cos]
        return self.backbone.embed_condition(condition.sequence, condition.pooled, aesthetic)

    def forward(self, ids: Tensor, embedded: EmbeddedCondition) -> Tensor:
        """Return logits (B, N, V) of ids (B, N) int64, given an embedded condition."""
        x = self.embedding(ids) + self.positions  # (B, N, D)
        x = self.backbone(x, embedded)  # (B, N, D)
        return F.linear(x, self.embedding.weight[: self.config.codebook_size])  # (B, N, V)

    def _initialise(self) -> None:
        for module in self.modules():
            init_linear(module, self.config.init_std)
        nn.init.trunc_normal_(self.positions, std=self.config.init_std)
        last = self.backbone.each_block()[-1]
        for linear in (self.backbone.final_modulation, last.text.modulation):
            nn.init.zeros_(linear.weight)
