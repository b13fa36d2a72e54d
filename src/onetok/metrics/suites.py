"""Which numbers a benchmark takes from features: suites of the pure metrics, by their names in tables.

    rfid / fid              Fréchet distance of reconstructions / samples to the reference, not to be compared
    accuracy                share of images that the extractor puts into the class they should show
    accuracy_real           the same of the reference images: the ceiling
    inception_score         and its standard deviation over splits
    features                numbers that the extractor makes of an image
    precision, recall       inside the k-nearest manifold of the other set

A suffix `_judge` marks the same number by a second, independently trained extractor.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from onetok.errors import OnetokError
from onetok.metrics.features import Features, class_accuracy
from onetok.metrics.frechet import frechet_distance, gaussian_statistics
from onetok.metrics.inception_score import InceptionScore, inception_score, shuffled
from onetok.metrics.precision_recall import precision_recall

Labels = NDArray[np.integer[Any]]


class Splits(NamedTuple):
    """How an inception score's images are cut into parts."""

    number: int
    shuffle_seed: int | None  # None where there is one split


def reconstruction_suite(
    reference: Features, rebuilt: Features, labels: Labels | None, *, splits: Splits
) -> dict[str, float]:
    """Compare reconstructions with the originals, image by image in the same order.

    `labels` are None where the extractor has other classes than the images.
    """
    score = _inception_score(rebuilt, splits)
    scores = {
        "rfid": _distance(reference, rebuilt),
        "inception_score": score.mean,
        "inception_score_std": score.std,
        "features": rebuilt.features.shape[1],
    }
    if labels is not None:
        scores["accuracy"] = class_accuracy(rebuilt.logits, labels)
        scores["accuracy_real"] = class_accuracy(reference.logits, labels)
    return scores


def generation_suite(
    reference: Features,
    samples: Features,
    labels: Labels | None,
    *,
    splits: Splits,
    manifold_images: int,
    neighbours: int,
) -> dict[str, float]:
    """Compare samples, made for `labels`, with reference images in any order.

    Precision and recall take `manifold_images` of the reference, spread evenly over it: their cost grows with the
    square.

    `labels` are None where the extractor has other classes than the images.
    """
    score = _inception_score(samples, splits)
    if manifold_images > len(reference.features):
        found = len(reference.features)
        raise OnetokError(
            f"manifold_images {manifold_images} (benchmark), but the reference has {found} images"
        )
    chosen = np.linspace(0, len(reference.features) - 1, manifold_images).round().astype(np.int64)
    real = torch.from_numpy(reference.features[chosen])
    manifold = precision_recall(real, torch.from_numpy(samples.features), neighbours)
    scores = {
        "fid": _distance(reference, samples),
        "inception_score": score.mean,
        "inception_score_std": score.std,
        "precision": manifold.precision,
        "recall": manifold.recall,
        "features": samples.features.shape[1],
    }
    if labels is not None:
        scores["accuracy"] = class_accuracy(samples.logits, labels)
    return scores


def _inception_score(images: Features, splits: Splits) -> InceptionScore:
    seed = splits.shuffle_seed
    logits = images.logits if seed is None else shuffled(images.logits, seed)
    return inception_score(logits, splits.number)


def _distance(a: Features, b: Features) -> float:
    return frechet_distance(gaussian_statistics(a.features), gaussian_statistics(b.features))
