"""The metrics that a benchmark computes from features, by their names in score files.

    rfid / fid              Fréchet distance of reconstructions / samples to the reference images; the two are not
                            comparable, since reconstructions are compared with their own originals
    sfid                    Fréchet distance by Inception's spatial features, as the ADM evaluator has it
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

from onetok.metrics.features import Features, Reference, class_accuracy
from onetok.metrics.frechet import frechet_distance, gaussian_statistics
from onetok.metrics.inception_score import InceptionScore, inception_score, shuffled
from onetok.metrics.precision_recall import precision_recall

Labels = NDArray[np.integer[Any]]


class Splits(NamedTuple):
    """How images are divided into parts for the Inception Score."""

    number: int
    shuffle_seed: int | None  # images are shuffled by this seed first; None keeps their order


def reconstruction_suite(
    reference: Reference, rebuilt: Features, labels: Labels | None, *, splits: Splits
) -> dict[str, float | None]:
    """Return the metrics of reconstructions, given what is kept of their originals, in the same order.

    Accuracies need the images' class labels (M,); `labels` is None if the extractor's classes are not the images'.

    Raises OnetokError as the single metrics do.
    """
    score = _inception_score(rebuilt, splits)
    scores: dict[str, float | None] = {
        "rfid": _distance(reference, rebuilt),
        "inception_score": score.mean,
        "inception_score_std": score.std,
        "features": rebuilt.features.shape[1],
    }
    if labels is not None:
        scores["accuracy"] = class_accuracy(rebuilt.logits, labels)
        assert reference.classes is not None
        scores["accuracy_real"] = float((reference.classes == labels).mean())
    return scores


def generation_suite(
    reference: Reference,
    samples: Features,
    labels: Labels | None,
    *,
    splits: Splits,
    neighbours: int,
) -> dict[str, float | None]:
    """Return the metrics of samples, given their features and what is kept of the reference images, in any order.

    Precision and recall use a part of the reference images, because their cost grows with the square of the number;
    they are None where the reference has no features of single images. Accuracy needs the class labels (M,) that the
    samples were conditioned on; `labels` is None if the extractor's classes are not theirs.

    Raises OnetokError as the single metrics do.
    """
    score = _inception_score(samples, splits)
    precision, recall = None, None
    if reference.manifold is not None:
        real, generated = torch.from_numpy(reference.manifold), torch.from_numpy(samples.features)
        precision, recall = precision_recall(real, generated, neighbours)
    scores: dict[str, float | None] = {
        "fid": _distance(reference, samples),
        "inception_score": score.mean,
        "inception_score_std": score.std,
        "precision": precision,
        "recall": recall,
        "features": samples.features.shape[1],
    }
    if reference.spatial is not None and samples.spatial is not None:
        scores["sfid"] = frechet_distance(reference.spatial, samples.spatial)
    if labels is not None:
        scores["accuracy"] = class_accuracy(samples.logits, labels)
    return scores


def _inception_score(images: Features, splits: Splits) -> InceptionScore:
    seed = splits.shuffle_seed
    logits = images.logits if seed is None else shuffled(images.logits, seed)
    return inception_score(logits, splits.number)


def _distance(reference: Reference, images: Features) -> float:
    return frechet_distance(reference.statistics, gaussian_statistics(images.features))
