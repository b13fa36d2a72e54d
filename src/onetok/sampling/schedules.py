"""Mask schedules: the share of tokens still masked when a share r of the steps is done (MaskGIT, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Every function takes and gives float64: floor(32·cos(π/3)) is 16 there and 15 in float32.
MASK_RATIOS: dict[str, Callable[[Tensor], Tensor]] = {
    "arccos": lambda r: torch.arccos(r) / (math.pi / 2),
    "cosine": lambda r: torch.cos(r * math.pi / 2),
    "linear": lambda r: 1 - r,
    "root": lambda r: 1 - r.sqrt(),
    "square": lambda r: 1 - r.square(),
}


@dataclass(frozen=True)
class MaskSchedule:
    name: str

    def ratio(self, r: Tensor) -> Tensor:
        """Return the masked share in [0, 1], float64, at progress r in [0, 1]."""
        return MASK_RATIOS[self.name](r.double())

    def masked_count(self, r: Tensor, tokens: int) -> Tensor:
        """Return how many of `tokens` to mask in training at progress r, at least 1: int64."""
        return (tokens * self.ratio(r)).round().clamp(min=1).long()

    def remaining(self, r: float, tokens: int, masked: int) -> int:
        """Return how many tokens stay masked after a sampling step that ends at progress r."""
        count = math.floor(tokens * float(self.ratio(torch.tensor(r, dtype=torch.float64))))
        return max(1, min(masked - 1, count))
