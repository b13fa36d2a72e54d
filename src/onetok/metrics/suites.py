"""The metrics that a benchmark computes from features, by their names in score files.

    rfid / fid              Fréchet distance of reconstructions / samples to the reference images; the two are not
                            comparable, since reconstructions are compared with their own originals
    accuracy                share of images that the extractor assigns to their class
    accuracy_real           the same share of the reference images, an upper bound for good images
    inception_score         its mean over splits; inception_score_std their standard deviation
    features                F, the number of features of an image
    precision, recall       shares of images inside the manifold of the other set

The suffix `_second`, which callers add, marks the same metric by a second feature extractor, trained independently.
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
    """How images are divided into parts for the Inception Score."""

    number: int
    shuffle_seed: int | None  # images are shuffled by this seed first; None keeps their order


def reconstruction_suite(
    reference: Features, rebuilt: Features, labels: Labels | None, *, splits: Splits
) -> dict[str, float]:
    """Return the metrics of reconstructions, given the features of originals and reconstructions in the same order.

    Accuracies need the images' class labels (M,); `labels` is None if the extractor's classes are not the images'.

    Raises OnetokError as the single metrics do.
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
    """Return the metrics of samples, given their features and those of the reference images, in any order.

    Precision and recall use `manifold_images` evenly spaced ones of the reference images, because their cost grows with
    the square of the number. Accuracy needs the class labels (M,) that the samples were conditioned on; `labels` is
    None if the extractor's classes are not theirs.

    Raises OnetokError if there are fewer reference images than `manifold_images`, and as the single metrics do.
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
