"""Extraction of the features and logits that FID, Inception Score, precision, recall and accuracy are computed from.

Legend: B batch · M images · H,W pixels · F features · K classes · D captions · P width of CLIP's shared space.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.images import to_float
from onetok.metrics.finite import require_finite
from onetok.metrics.frechet import GaussianAccumulator, GaussianStatistics
from onetok.networks.clip import CLIP


class FeatureExtractor(Protocol):
    """A network for metrics: images (B, 3, H, W) float in [0, 1] → features (B, F) → logits (B, K)."""

    def features(self, images: Tensor) -> Tensor: ...

    def logits(self, features: Tensor) -> Tensor: ...


@runtime_checkable
class SpatialExtractor(Protocol):
    """A network that also has features of places of an image, (B, S), as Inception."""

    def features_and_spatial(self, images: Tensor) -> tuple[Tensor, Tensor]: ...


class Features(NamedTuple):
    """The outputs of a feature extractor for M images."""

    features: NDArray[np.float32]  # (M, F)
    logits: NDArray[np.float32]  # (M, K)
    spatial: GaussianStatistics | None = None  # of Inception's spatial features, which sFID compares


class Part(NamedTuple):
    """The outputs of a feature extractor for a batch of images."""

    features: NDArray[np.float32]  # (B, F)
    logits: NDArray[np.float32]  # (B, K)
    spatial: NDArray[np.float32] | None  # (B, S) of Inception alone


class Reference(NamedTuple):
    """What is kept of the reference images of a benchmark, by one feature extractor."""

    statistics: GaussianStatistics
    spatial: GaussianStatistics | None  # of Inception alone
    manifold: NDArray[np.float32] | None  # (R, F) features of the images that precision and recall take
    classes: (
        NDArray[np.int64] | None
    )  # (M,) of the images, as the extractor sees them, for their class accuracy


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

    Raises OnetokError as feature_parts does.
    """
    found: dict[str, list[Part]] = {role: [] for role in extractors}
    spatial = {role: GaussianAccumulator() for role in extractors}
    for parts in feature_parts(extractors, batches, device):
        for role, part in parts.items():
            if part.spatial is not None:
                spatial[role].add(part.spatial)
            found[role].append(part._replace(spatial=None))
    return {
        role: Features(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.logits for part in parts]),
            spatial[role].statistics() if isinstance(extractors[role], SpatialExtractor) else None,
        )
        for role, parts in found.items()
    }


@torch.inference_mode()
def feature_parts(
    extractors: Mapping[str, FeatureExtractor], batches: Iterable[Tensor], device: torch.device
) -> Iterator[dict[str, Part]]:
    """Yield the outputs of every extractor for each batch (B, 3, H, W) uint8, by role.

    Raises OnetokError for features or logits that are not finite; it names the extractor's role and the image.
    """
    first = 0
    for pixels in batches:
        images = to_float(pixels.to(device))
        parts = {}
        for role, extractor in extractors.items():
            spatial = None
            if isinstance(extractor, SpatialExtractor):
                features, spatial = extractor.features_and_spatial(images)
            else:
                features = extractor.features(images)
            logits = extractor.logits(features)
            part = Part(_array(features), _array(logits), None if spatial is None else _array(spatial))
            for kind, rows in zip(part._fields, part, strict=True):
                if rows is not None:
                    require_finite(rows, f"{kind} by the {role.replace('_', ' ')}", first)
            parts[role] = part
        first += len(pixels)
        yield parts


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def measure(
    parts: Iterable[Mapping[str, Part]], images: int, manifold_images: int, *, classes: bool
) -> dict[str, Reference]:
    """Return what is kept of `images` reference images, by role, from their features in parts.

    Precision and recall get `manifold_images` evenly spaced ones of them, none for 0. Their classes are kept if
    `classes`. The memory does not grow with the number of images, but for 8 bytes of each class.

    Raises OnetokError as GaussianAccumulator does.
    """
    chosen = evenly_spaced(images, manifold_images)
    pooled: dict[str, GaussianAccumulator] = {}
    spatial: dict[str, GaussianAccumulator] = {}
    rows: dict[str, list[NDArray[np.float32]]] = {}
    seen: dict[str, list[NDArray[np.int64]]] = {}
    first = 0
    for by_role in parts:
        number = 0
        for role, part in by_role.items():
            number = len(part.features)
            pooled.setdefault(role, GaussianAccumulator()).add(part.features)
            if part.spatial is not None:
                spatial.setdefault(role, GaussianAccumulator()).add(part.spatial)
            wanted = chosen[(chosen >= first) & (chosen < first + number)] - first
            rows.setdefault(role, []).append(part.features[wanted])
            if classes:
                seen.setdefault(role, []).append(part.logits.argmax(axis=1))
        first += number
    return {
        role: Reference(
            found.statistics(),
            spatial[role].statistics() if role in spatial else None,
            np.concatenate(rows[role]) if manifold_images else None,
            np.concatenate(seen[role]) if classes else None,
        )
        for role, found in pooled.items()
    }


def evenly_spaced(images: int, number: int) -> NDArray[np.int64]:
    """Return the places of `number` of the images 0 … images-1, from the first to the last."""
    return np.linspace(0, images - 1, number).round().astype(np.int64)


def class_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of images whose largest logit (M, K) is their label (M,)."""
    return float((logits.argmax(axis=1) == labels).mean())
