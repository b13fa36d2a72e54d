"""Improved precision and recall (arXiv 1904.06991): shares of images inside the other set's k-nearest manifold.

Legend: R real images · G generated images · F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onetok.errors import OnetokError
from onetok.metrics.finite import require_finite

BLOCK = 4096  # rows of distances at a time: bounds memory at 50,000 images


class PrecisionRecall(NamedTuple):
    precision: float  # generated images inside the real manifold
    recall: float  # real images inside the generated manifold


def precision_recall(real: Tensor, generated: Tensor, neighbours: int) -> PrecisionRecall:
    """Compare features (R, F) and (G, F).

    Raises OnetokError where a set has no k-th neighbour, and for features that are not finite.
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
    """Return each point's distance to its k-th nearest other point: (M, F) → (M,)."""
    radii = [
        torch.cdist(block, features).kthvalue(neighbours + 1, dim=1).values  # the nearest is the point itself
        for block in features.split(BLOCK)
    ]
    return torch.cat(radii)


def _share_inside(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    inside = [(torch.cdist(block, centres) <= radii).any(dim=1) for block in points.split(BLOCK)]
    return float(torch.cat(inside).double().mean())
