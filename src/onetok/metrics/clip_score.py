"""CLIP score: how near a picture is to its caption (arXiv 2104.08718, without its factor of 2.5).

Legend: M pictures · P width of the space that CLIP shares.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def clip_scores(images: Tensor, texts: Tensor) -> Tensor:
    """Return 100 · max(cosine, 0) of each image (M, P) and its own text (M, P): (M,) float32 in [0, 100]."""
    cosines = F.cosine_similarity(images.float(), texts.float(), dim=1)  # (M,)
    return 100 * cosines.clamp(min=0)
