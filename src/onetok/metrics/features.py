"""Extraction of the features and logits that FID, Inception Score, precision, recall and accuracy are computed from.

Legend: B batch · M images · H,W pixels · F features · K classes · D captions · P width of CLIP's shared space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.images import to_float
from onetok.metrics.finite import require_finite
from onetok.networks.clip import CLIP


class FeatureExtractor(Protocol):
    """A network for metrics: images (B, 3, H, W) float in [0, 1] → features (B, F) → logits (B, K)."""

    def features(self, images: Tensor) -> Tensor: ...

    def logits(self, features: Tensor) -> Tensor: ...


class Features(NamedTuple):
    """The outputs of a feature extractor for M images."""

    features: NDArray[np.float32]  # (M, F)
    logits: NDArray[np.float32]  # (M, K)


class CaptionClassifier:
    """CLIP as a zero-shot classifier: the logits of an image are its cosine similarities with D captions.

    Captions are given as pooled text states (D, P).
    """

    def __init__(self, model: CLIP, captions: Tensor) -> None:
        self.model = model
        self.texts = F.normalize(captions, dim=1)  # (D, P)

    def features(self, images: Tensor) -> Tensor:
        """Return CLIP's image features (B, P) of images (B, 3, H, W) float in [0, 1]."""
        return self.model.features(images)  # (B, P)

    def logits(self, features: Tensor) -> Tensor:
        """Return the cosine similarities (B, D) of image features (B, P) with every caption."""
        return F.normalize(features, dim=1) @ self.texts.T  # (B, D)


@torch.inference_mode()
def extract_features(
    extractors: Mapping[str, FeatureExtractor], batches: Iterable[Tensor], device: torch.device
) -> dict[str, Features]:
    """Return the features and logits of all images by every extractor, from batches (B, 3, H, W) uint8, in order.

    Only one batch of images is in memory at a time. The keys of `extractors` and of the result are roles.

    Raises OnetokError for features or logits that are not finite; it names the extractor's role and the image.
    """
    found: dict[str, list[Features]] = {role: [] for role in extractors}
    first = 0
    for pixels in batches:
        images = to_float(pixels.to(device))
        for role, extractor in extractors.items():
            features = extractor.features(images)
            logits = extractor.logits(features)
            part = Features(features.float().cpu().numpy(), logits.float().cpu().numpy())
            for kind, rows in zip(part._fields, part, strict=True):
                require_finite(rows, f"{kind} by the {role.replace('_', ' ')}", first)
            found[role].append(part)
        first += len(pixels)
    return {role: Features(*map(np.concatenate, zip(*parts, strict=True))) for role, parts in found.items()}


def class_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of images whose largest logit (M, K) is their label (M,)."""
    return float((logits.argmax(axis=1) == labels).mean())
