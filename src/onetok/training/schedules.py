"""Learning-rate schedules.

Legend: s step, from 0 · w warm-up steps · T steps in all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    """Linear warm-up, then a cosine decay or a constant learning rate."""

    kind: str  # cosine or constant
    base: float  # at step w
    end: float  # at step T, cosine only
    warmup: int  # w
    steps: int  # T

    def at(self, step: int) -> float:
        """Return the learning rate of step s: linear from 0 to `base` in w steps, then cosine to `end`, or constant."""
        if step < self.warmup:
            return self.base * step / self.warmup
        if self.kind == "constant":
            return self.base
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.end + (self.base - self.end) * 0.5 * (1 + math.cos(math.pi * progress))
