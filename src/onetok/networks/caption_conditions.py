"""From captions and aesthetic scores to the condition of a text-to-image generator, with a frozen text encoder.

Legend: B batch · T token ids of a caption · S, P widths of the encoder's states and pooled states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onetok.data.batches import Batch
from onetok.data.captions import CaptionTokenizer
from onetok.networks.clip import CLIP
from onetok.nn.text_condition import TextCondition
from onetok.study.schema.shapes import TextLayer


class EncodedCaptions:
    """Conditions from captions that are encoded for each batch. This is no module, since the encoder is not trained."""

    def __init__(self, encoder: CLIP, layer: TextLayer) -> None:
        self.encoder, self.layer = encoder, layer
        self.tokenize = CaptionTokenizer(encoder.context_length)
        self.device = next(encoder.parameters()).device
        sequence, pooled = self._states(self.tokenize([""]).to(self.device))
        self.empty_sequence, self.empty_pooled = sequence[0], pooled[0]  # (T, S), (P,)

    def of(self, captions: Sequence[str], aesthetic: float | None) -> TextCondition:
        """Return the condition of B captions with the same score; None for a generator that takes no score."""
        score = torch.full((len(captions),), aesthetic or 0.0, device=self.device)  # (B,)
        return self._condition(self.tokenize(captions).to(self.device), score)

    def __call__(self, batch: Batch) -> TextCondition:
        """Return the condition of a batch that holds captions (B, T) int64 and aesthetics (B, 1) float32."""
        return self._condition(batch.captions, batch.aesthetics[:, 0])

    def _condition(self, ids: Tensor, aesthetics: Tensor) -> TextCondition:
        sequence, pooled = self._states(ids)  # (B, T, S), (B, P)
        return TextCondition(sequence, pooled, aesthetics, self.empty_sequence, self.empty_pooled)

    @torch.no_grad()
    def _states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        states = self.encoder.encode_text(ids)
        sequence = states.penultimate if self.layer == "penultimate" else states.sequence  # (B, T, S)
        return sequence, states.pooled  # (B, T, S), (B, P)


class CachedCaptions:
    """Conditions from the text states that a token cache holds: those that enter the text tower's last block."""

    def __init__(self, empty: Mapping[str, Tensor]) -> None:
        self.empty = empty  # sequence (1, T, S) and pooled (1, P) of the empty caption

    def __call__(self, batch: Batch) -> TextCondition:
        """Return the condition of a batch with sequence (B, T, S), pooled (B, P) and aesthetics (B, 1) float32."""
        sequence, pooled = (self.empty[name][0].to(batch.sequence.device) for name in ("sequence", "pooled"))
        return TextCondition(batch.sequence, batch.pooled, batch.aesthetics[:, 0], sequence, pooled)
