"""Classifier-free guidance of token generators, as each paper's released sampler applies it.

Legend: s step · S steps · g scale. g = 0 stands for no guidance in every form. The neutral scale of power-cosine and of
MaskGen's forms is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    kind: str  # constant, linear or power-cosine
    scale: float  # g
    power: float  # exponent p of power-cosine

    def weight(self, step: int, steps: int) -> float:
        """Return w of cond + (cond - uncond)·w at step s of S; at 0 the unconditional branch has no effect."""
        if self.scale == 0:
            return 0.0
        match self.kind:
            case "constant":
                return self.scale
            case "linear":
                return self.scale * step / steps
            case "power-cosine":
                ramp = (1 - math.cos(math.pi * (step / steps) ** self.power)) / 2
                return (self.scale - 1) * ramp
        raise ValueError(f"guidance {self.kind!r}, expected constant, linear or power-cosine")

    def weights(self, steps: int) -> list[float]:
        """Return w at every step."""
        return [self.weight(step, steps) for step in range(steps)]


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Return logits (or another prediction) pushed away from the unconditional ones, both of one shape."""
    return conditional + (conditional - unconditional) * weight
