"""Classifier-free guidance of token generators, as each paper's released sampler applies it.

Legend: s step · S steps · r = (s+1)/S · g scale. g = 0 stands for no guidance in every form of `Guidance`. The neutral
scale of power-cosine is 1, and so is that of `RevealGuidance`, which knows no g = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

GUIDANCE_KINDS = (
    "constant",  # MaskGIT's
    "linear",  # TiTok's
    "power-cosine",  # TiTok's and RAR's
    "maskgen-linear",
    "maskgen-cosine",  # MaskGen-VQ's, by its released sampler's default
    "maskgen-flipped-cosine",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    kind: str  # one of GUIDANCE_KINDS
    scale: float  # g
    power: float  # exponent p of the cosines

    def weight(self, step: int, steps: int) -> float:
        """Return w of cond + (cond - uncond)·w at step s of S; at 0 the unconditional branch has no effect."""
        if self.scale == 0:
            return 0.0
        r = (step + 1) / steps
        match self.kind:
            case "constant":
                return self.scale
            case "linear":
                return self.scale * step / steps
            case "power-cosine":
                ramp = (1 - math.cos(math.pi * (step / steps) ** self.power)) / 2
                return (self.scale - 1) * ramp
            case "maskgen-linear":
                return 1 + (self.scale - 1) * r
            case "maskgen-cosine":
                return 1 + (self.scale - 1) * (1 - math.cos(math.pi * r**self.power)) / 2
            case "maskgen-flipped-cosine":
                return 1 + (self.scale - 1) * math.cos(math.pi * r**self.power) / 2
        raise ValueError(f"guidance {self.kind!r}, expected one of {', '.join(GUIDANCE_KINDS)}")

    def weights(self, steps: int) -> list[float]:
        """Return w at every step."""
        return [self.weight(step, steps) for step in range(steps)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RevealGuidance:
    """MaskGen-KL's guidance, which grows with the tokens that are known."""

    kind: str  # constant or linear
    scale: float  # g, at least 1; 1 is no guidance

    def weight(self, masked: int, tokens: int) -> float:
        """Return w of cond + (cond - uncond)·w in a round after which `masked` of `tokens` stay masked."""
        match self.kind:
            case "constant":
                return self.scale - 1
            case "linear":
                return (self.scale - 1) * (tokens - masked) / tokens
        raise ValueError(f"guidance {self.kind!r}, expected constant or linear")


def guided(conditional: Tensor, unconditional: Tensor, weight: float | Tensor) -> Tensor:
    """Return logits (or another prediction) pushed away from the unconditional ones, both of one shape."""
    return conditional + (conditional - unconditional) * weight
