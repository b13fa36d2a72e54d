"""CLIP's loss (arXiv 2103.00020, figure 3): in a batch, an image belongs to its caption and to no other.

Equal captions are no negatives of each other: the target of an image is spread evenly over all captions that read as
its own, and so the other way round. Captions made from class names would contradict themselves otherwise.

Legend: B batch · T token ids of a caption · P width of the shared space.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

MAX_LOG_SCALE = math.log(100)  # of the logits, as CLIP clamps it


def contrastive_loss(images: Tensor, texts: Tensor, ids: Tensor, log_scale: Tensor) -> dict[str, Tensor]:
    """Return the mean of both cross-entropies of images (B, P) and texts (B, P) with captions `ids` (B, T).

    And the share of images whose nearest caption reads as their own.
    """
    images, texts = F.normalize(images.float(), dim=1), F.normalize(texts.float(), dim=1)
    logits = log_scale.clamp(max=MAX_LOG_SCALE).exp() * images @ texts.T  # (B, B): image by text
    equal = (ids[:, None] == ids[None]).all(dim=2)  # (B, B), symmetric
    target = equal / equal.sum(dim=1, keepdim=True)
    total = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    correct = equal.gather(1, logits.argmax(dim=1, keepdim=True))
    return {"total": total, "accuracy": correct.float().mean().detach()}
