"""Classifier-free guidance of token generators, as each paper's released sampler applies it.

A scale g of 0 means no guidance, for every kind of schedule. For "power-cosine", a scale of 1 has no effect either.
MaskGen-KL's guidance is in systems/maskgen/sampling.py.

Legend: s step, from 0 · S steps · r = (s+1)/S · g guidance scale · w guidance weight.
"""

from __future__ import annotations

import math

from torch import Tensor

from onetok.study.schema.sampling import Guidance


def guidance_weight(guidance: Guidance, step: int, steps: int) -> float:
    """Return the weight w in conditional + w·(conditional - unconditional) at step s of S.

    At w = 0 the unconditional branch has no effect and need not be computed.
    """
    if guidance.scale == 0:
        return 0.0
    r = (step + 1) / steps
    match guidance.kind:
        case "constant":  # MaskGIT
            return guidance.scale
        case "linear":  # TiTok
            return guidance.scale * step / steps
        case "power-cosine":  # TiTok and RAR
            ramp = (1 - math.cos(math.pi * (step / steps) ** guidance.power)) / 2
            return (guidance.scale - 1) * ramp
        case "maskgen-linear":
            return 1 + (guidance.scale - 1) * r
        case "maskgen-cosine":  # the default of MaskGen-VQ's released sampler
            return 1 + (guidance.scale - 1) * (1 - math.cos(math.pi * r**guidance.power)) / 2
        case "maskgen-flipped-cosine":
            return 1 + (guidance.scale - 1) * math.cos(math.pi * r**guidance.power) / 2


def guidance_weights(guidance: Guidance, steps: int) -> list[float]:
    """Return the weight w at every step 0 … S-1."""
    return [guidance_weight(guidance, step, steps) for step in range(steps)]


def guided(conditional: Tensor, unconditional: Tensor, weight: float | Tensor) -> Tensor:
    """Return conditional + weight·(conditional - unconditional), for logits or other predictions of one shape."""
    return conditional + (conditional - unconditional) * weight
