"""Mask schedules: the share of tokens that are masked at progress r (MaskGIT, arXiv 2202.04200, section 3.3).

In sampling, r is the share of steps that are done; in training, r is uniform in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Inputs and results are float64, because rounding decides the number of tokens: floor(32·cos(π/3)) is 16 in float64 and
# 15 in float32.
MASK_RATIOS: dict[str, Callable[[Tensor], Tensor]] = {
    "arccos": lambda r: torch.arccos(r) / (math.pi / 2),
    "cosine": lambda r: torch.cos(r * math.pi / 2),
    "linear": lambda r: 1 - r,
    "root": lambda r: 1 - r.sqrt(),
    "square": lambda r: 1 - r.square(),
}


@dataclass(frozen=True)
class MaskSchedule:
    """A mask schedule, by its name in MASK_RATIOS."""

    name: str

    def ratio(self, r: Tensor) -> Tensor:
        """Return the masked share in [0, 1] at progress r in [0, 1], float64, of r's shape."""
        return MASK_RATIOS[self.name](r.double())

    def masked_count(self, r: Tensor, tokens: int) -> Tensor:
        """Return how many of `tokens` to mask in training at progress r, at least 1: int64, of r's shape."""
        return (tokens * self.ratio(r)).round().clamp(min=1).long()

    def remaining(self, r: float, tokens: int, masked: int) -> int:
        """Return how many of `tokens` stay masked after the sampling step that ends at progress r.

        It is at least 1 and less than `masked`, the number before the step, so that every step reveals a token.
        """
        count = math.floor(tokens * float(self.ratio(torch.tensor(r, dtype=torch.float64))))
        return max(1, min(masked - 1, count))
