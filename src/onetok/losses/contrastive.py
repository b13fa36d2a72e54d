"""CLIP's contrastive loss (arXiv 2103.00020, figure 3): classify each image's caption in the batch, and the reverse.

Equal captions are no negatives of each other: the target distribution of an image is uniform over all captions that are
equal to its own, and likewise that of a caption over images. Otherwise captions made from class names, of which a batch
has many equal ones, would be both positive and negative for the same image.

Legend: B batch · T token ids of a caption · P width of the shared space.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

MAX_LOG_SCALE = math.log(100)  # CLIP clamps the scale of the logits at 100 (section 2.5)


def contrastive_loss(images: Tensor, texts: Tensor, ids: Tensor, log_scale: Tensor) -> dict[str, Tensor]:
    """Return scalars: `total`, the loss, and `accuracy`, the share of images whose most similar caption is their own.

    Vectors of images and texts are (B, P), of any length; ids (B, T) int64 are the captions, and log_scale () is the
    logarithm of the factor from cosine similarity to logits.
    """
    images, texts = F.normalize(images.float(), dim=1), F.normalize(texts.float(), dim=1)  # (B, P) each
    logits = log_scale.clamp(max=MAX_LOG_SCALE).exp() * images @ texts.T  # (B, B), image by text
    equal = (ids[:, None] == ids[None]).all(dim=2)  # (B, B), symmetric
    target = equal / equal.sum(dim=1, keepdim=True)  # (B, B)
    total = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    correct = equal.gather(1, logits.argmax(dim=1, keepdim=True))  # (B, 1)
    return {"total": total, "accuracy": correct.float().mean().detach()}
