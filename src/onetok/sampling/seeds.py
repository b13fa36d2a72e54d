"""Per-image randomness: image i of a study is sampled with its own random generator, seeded by (seed of params, i).

An image therefore does not depend on the batch in which it is sampled, nor on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class ImageRandom:
    """The random generators of a batch of B images; each call takes the next numbers of every image's stream."""

    def __init__(self, seed: int, images: Sequence[int], device: torch.device) -> None:
        self.generators = [_generator(seed, image, device) for image in images]
        self.device = device

    def uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32 uniform in [0, 1), row i from the stream of image i."""
        rows = [torch.rand(shape, generator=g, device=self.device) for g in self.generators]
        return torch.stack(rows)

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32 standard normal noise, row i from the stream of image i."""
        rows = [torch.randn(shape, generator=g, device=self.device) for g in self.generators]
        return torch.stack(rows)

    def gumbel(self, *shape: int) -> Tensor:
        """Return (B, *shape) float32 standard Gumbel noise, -ln(-ln u) with both logarithms' arguments ≥ 1e-20."""
        u = self.uniform(*shape)
        return -(-u.clamp(min=1e-20).log()).clamp(min=1e-20).log()


def _generator(seed: int, image: int, device: torch.device) -> torch.Generator:
    (state,) = np.random.SeedSequence([seed, image]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
