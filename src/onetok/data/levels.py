"""From a model's float pixels to 8 bits, the form in which images are stored and scored."""

from __future__ import annotations

import torch
from torch import Tensor

from onetok.data.images import to_uint8
from onetok.errors import OnetokError
from onetok.study.schema.benchmarks import EightBits


def to_levels(images: Tensor, eight_bits: EightBits, what: str) -> Tensor:
    """Return images (B, 3, H, W) float as uint8: clamped to [0, 1], times 255, then rounded or truncated.

    Truncation darkens an image by half a level on average; some published scores are of truncated images.

    Raises OnetokError for NaN or infinity, which would otherwise become some colour; `what` names the images.
    """
    wrong = (~images.isfinite()).flatten(1).any(dim=1)
    if wrong.any():
        raise OnetokError(
            f"{what}: {int(wrong.sum())} of a batch of {len(images)} images hold NaN or infinity, expected"
            " finite pixels: the model's weights have diverged or are of another layout"
        )
    if eight_bits == "truncated":
        return (images.clamp(0, 1) * 255).to(torch.uint8)
    return to_uint8(images)
