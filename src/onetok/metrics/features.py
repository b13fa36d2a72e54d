"""One pass over images gives what every feature metric needs.

Legend: M images · F features · K classes · D captions · P width of the space that CLIP shares.
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
from onetok.models.text_encoder import CLIP


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


class CaptionClassifier:
    """A CLIP as a classifier without training: the logits of an image are its cosines with D captions."""

    def __init__(self, model: CLIP, captions: Tensor) -> None:
        self.model = model
        self.texts = F.normalize(captions, dim=1)  # (D, P), pooled states

    def features(self, images: Tensor) -> Tensor:
        return self.model.features(images)  # (B, P)

    def logits(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=1) @ self.texts.T  # (B, D)


@torch.inference_mode()
def extract_features(
    extractors: Mapping[str, FeatureExtractor], batches: Iterable[Tensor], device: torch.device
) -> dict[str, Features]:
    """Pass batches of uint8 images (B, 3, H, W) through every extractor, in order; one batch in memory at a time.

    Raises OnetokError that names the extractor's role and the image for features or logits that are not finite.
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
                require_finite(rows, f"{kind} by the {role}", first)
            found[role].append(part)
        first += len(pixels)
    return {role: Features(*map(np.concatenate, zip(*parts, strict=True))) for role, parts in found.items()}


def class_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of images whose largest logit (M, K) is their label (M,)."""
    return float((logits.argmax(axis=1) == labels).mean())
