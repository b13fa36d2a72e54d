"""Improved precision and recall (arXiv 1904.06991): shares of images inside the manifold of the other set.

The manifold of a set is estimated as the union of balls around its images' features, each with the distance to its k-th
nearest neighbour in the set as radius.

Legend: R real images · G generated images · M images of either set · F features · k neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onetok.errors import OnetokError
from onetok.metrics.finite import require_finite

BLOCK = 4096  # images whose distances to all others are in memory at a time, which matters for 50,000 images


class PrecisionRecall(NamedTuple):
    """Two shares of images, in [0, 1]."""

    precision: float  # generated images inside the real manifold
    recall: float  # real images inside the generated manifold


def precision_recall(real: Tensor, generated: Tensor, neighbours: int) -> PrecisionRecall:
    """Return precision and recall of real features (R, F) and generated features (G, F), computed in float64.

    Raises OnetokError for a set of k images or fewer, and for features that are not finite.
    """
    for name, features in (("real", real), ("generated", generated)):
        if len(features) <= neighbours:
            raise OnetokError(
                f"precision and recall: found {len(features)} {name} images, expected over {neighbours}"
            )
        require_finite(features.numpy(force=True), f"precision and recall, {name} images")
    real, generated = real.double(), generated.double()
    return PrecisionRecall(
        precision=_share_inside(generated, real, manifold_radii(real, neighbours)),
        recall=_share_inside(real, generated, manifold_radii(generated, neighbours)),
    )


def manifold_radii(features: Tensor, neighbours: int) -> Tensor:
    """Return each image's distance to its k-th nearest other image, in features: (M, F) → (M,)."""
    # The nearest neighbour of an image is itself, so the k-th other one is the (k+1)-th.
    radii = [
        torch.cdist(block, features).kthvalue(neighbours + 1, dim=1).values for block in features.split(BLOCK)
    ]
    return torch.cat(radii)


def _share_inside(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """Return the share of points (n, F) that are in the ball of at least one centre (M, F) with its radius, (M,)."""
    inside = [(torch.cdist(block, centres) <= radii).any(dim=1) for block in points.split(BLOCK)]
    return float(torch.cat(inside).double().mean())
