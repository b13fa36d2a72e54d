"""Flow matching from text tokens to image tokens (FlowTok, arXiv 2503.10772, sections 3.2 and 3.3).

The flow goes along straight lines from text tokens at t = 0 to image tokens at t = 1. This module has the points and
the velocity of a line, the exchange of targets that trains classifier-free guidance, and the released code's
alternative to the KL divergence that keeps the distribution of text tokens near a standard normal.

Legend: B batch · N tokens · C token channels · t time.
"""

from __future__ import annotations

import torch
from torch import Tensor

SPREAD = 1e-5  # weight of the text tokens that is left at t = 1
FLAT = 0.3  # factor on the means in the released alternative to the KL divergence


def draw_times(count: int, device: torch.device) -> Tensor:
    """Draw times (count,) in (0, 1) from the logit-normal distribution: the sigmoid of a standard normal."""
    return torch.randn(count, device=device).sigmoid()  # (count,)


def between(text: Tensor, image: Tensor, t: Tensor) -> Tensor:
    """Return the points (B, N, C) at times t (B,) of the lines from text tokens to image tokens, (B, N, C) each."""
    t = t[:, None, None]  # (B, 1, 1)
    return (1 - (1 - SPREAD) * t) * text + t * image  # (B, N, C)


def velocity(text: Tensor, image: Tensor) -> Tensor:
    """Return the velocity (B, N, C) along the lines from text tokens to image tokens; it is the same at all times."""
    return image - (1 - SPREAD) * text  # (B, N, C)


def swap_targets(images: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
    """Give each marked item the target of the next marked item, and the last one that of the first.

    Image tokens are (B, N, C) and marks (B,) bool; the result is both, after the exchange. If only one item is marked,
    there is no other target, and no item is marked in the result. From items whose target belongs to another caption
    the network learns the flow to any image, which is the unconditional branch of guidance.
    """
    rows = marked.nonzero().flatten()  # (number of marked items,)
    if len(rows) < 2:
        return images, torch.zeros_like(marked)
    return images.index_copy(0, rows, images[rows.roll(-1)]), marked  # (B, N, C), (B,)


def flat_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the released code's alternative to KL(posterior ‖ standard normal) of each token, summed over channels.

    Means and log-variances are (B, N, C), the result is (B, N). It differs from the KL divergence in that the square of
    each mean is replaced by the sixth power of 0.3 times the mean: it hardly penalises means within ±3, and means far
    beyond them much more.
    """
    return 0.5 * ((FLAT * mean).pow(6) + log_variance.exp() - 1 - log_variance).sum(dim=-1)  # (B, N)
