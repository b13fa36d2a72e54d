"""CLIP score: the cosine similarity of an image and its caption (arXiv 2104.08718, without its factor of 2.5).

Legend: M images · P width of CLIP's shared space.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def clip_scores(images: Tensor, texts: Tensor) -> Tensor:
    """Return 100·max(cosine, 0) of image features and the features of their captions, (M, P) each: (M,) in [0, 100]."""
    cosines = F.cosine_similarity(images.float(), texts.float(), dim=1)  # (M,)
    return 100 * cosines.clamp(min=0)
