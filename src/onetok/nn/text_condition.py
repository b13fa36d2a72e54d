"""The condition of text-to-image generators: a caption's text states and the image's aesthetic score.

Legend: B batch · T text states · S, P widths of the text encoder's states and of its pooled state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TextCondition(NamedTuple):
    """The text states of B captions, and those of the empty caption, which is the null condition of guidance."""

    sequence: Tensor  # (B, T, S) float32 states of the text encoder's layer that the generator takes
    pooled: Tensor  # (B, P) float32 projected end-of-text state
    aesthetic: Tensor  # (B,) float32 aesthetic score, about 0 to 10; text dropout keeps it. Some generators ignore it
    empty_sequence: Tensor  # (T, S)
    empty_pooled: Tensor  # (P,)

    def dropped(self, rows: Tensor) -> TextCondition:
        """Return the condition with the empty caption in the place of caption i wherever rows[i] is true, (B,) bool."""
        sequence = torch.where(rows[:, None, None], self.empty_sequence, self.sequence)  # (B, T, S)
        pooled = torch.where(rows[:, None], self.empty_pooled, self.pooled)  # (B, P)
        return self._replace(sequence=sequence, pooled=pooled)

    def with_unconditional(self) -> TextCondition:
        """Return the condition of 2B images: the B given ones, then the same with empty captions."""
        without = self.dropped(torch.ones_like(self.aesthetic, dtype=torch.bool))
        return self._replace(
            sequence=torch.cat([self.sequence, without.sequence]),  # (2B, T, S)
            pooled=torch.cat([self.pooled, without.pooled]),  # (2B, P)
            aesthetic=self.aesthetic.repeat(2),  # (2B,)
        )
