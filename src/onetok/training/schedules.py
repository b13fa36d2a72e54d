"""Learning-rate schedules. Legend: s step · w warm-up steps · T steps in all."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    kind: str  # cosine or constant
    base: float
    end: float  # at step T, cosine only
    warmup: int  # w
    steps: int  # T

    def at(self, step: int) -> float:
        """Return the learning rate of step s: linear to `base` over w steps, then cosine to `end`, or constant."""
        if step < self.warmup:
            return self.base * step / self.warmup
        if self.kind == "constant":
            return self.base
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.end + (self.base - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomnessAnnealing:
    """How often a sample's tokens are predicted in random order (RAR, arXiv 2411.00776, equation 5)."""

    start: int  # up to this step always
    end: int  # from this step on never: raster order

    def probability(self, step: int) -> float:
        """Return the probability of a random order at `step`; between start and end it falls linearly."""
        if step < self.start:
            return 1.0
        if step >= self.end:
            return 0.0
        return (self.end - step) / (self.end - self.start)
