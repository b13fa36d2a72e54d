"""From a model's values to levels of 8 bits, the form in which pictures are stored and scored."""

from __future__ import annotations

import torch
from torch import Tensor

from onetok.data.images import to_uint8
from onetok.errors import OnetokError
from onetok.params import EightBits


def to_levels(images: Tensor, eight_bits: EightBits, what: str) -> Tensor:
    """Return images (B, 3, H, W) float, clamped to [0, 1], as uint8; truncated ones are darker by half a level.

    Raises OnetokError for values that are not finite, which would become a colour; `what` is for the message.
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
