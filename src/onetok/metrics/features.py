"""One pass over images gives what every feature metric needs.

Legend: M images · F features · K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.images import to_float


class FeatureExtractor(Protocol):
    """Images (B, 3, H, W) float in [0, 1] → features (B, F) → logits (B, K)."""

    def features(self, images: Tensor) -> Tensor: ...

    def logits(self, features: Tensor) -> Tensor: ...


class PerceptualNetwork(FeatureExtractor, Protocol):
    """A feature extractor whose stages are open: images (B, 3, H, W) → maps [(B, C, h, w)]."""

    def maps(self, images: Tensor) -> list[Tensor]: ...


class Features(NamedTuple):
    features: NDArray[np.float32]  # (M, F)
    logits: NDArray[np.float32]  # (M, K)


@torch.inference_mode()
def extract_features(
    extractor: FeatureExtractor, batches: Iterable[Tensor], device: torch.device
) -> Features:
    """Pass batches of uint8 images (B, 3, H, W) through an extractor, in order."""
    features, logits = [], []
    for pixels in batches:
        f = extractor.features(to_float(pixels.to(device)))
        features.append(f.float().cpu().numpy())
        logits.append(extractor.logits(f).float().cpu().numpy())
    return Features(np.concatenate(features), np.concatenate(logits))


def class_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of images whose largest logit (M, K) is their label (M,)."""
    return float((logits.argmax(axis=1) == labels).mean())
