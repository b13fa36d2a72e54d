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

    @property
    def enabled(self) -> bool:
        """False where the unconditional branch would have no effect at any step and can be left out."""
        return self.scale not in ((0, 1) if self.kind == "power-cosine" else (0,))

    def weight(self, step: int, steps: int) -> float:
        """Return w of cond + (cond - uncond)·w at step s of S."""
        match self.kind:
            case "constant":
                return self.scale
            case "linear":
                return self.scale * step / steps
            case "power-cosine":
                ramp = (1 - math.cos(math.pi * (step / steps) ** self.power)) / 2
                return (self.scale - 1) * ramp
        raise ValueError(f"guidance {self.kind!r}, expected constant, linear or power-cosine")

    def apply(self, conditional: Tensor, unconditional: Tensor, step: int, steps: int) -> Tensor:
        return conditional + (conditional - unconditional) * self.weight(step, steps)
