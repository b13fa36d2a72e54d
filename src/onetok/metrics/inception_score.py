"""Inception score (arXiv 1606.03498): exp of the mean divergence of each image's classes from the average's.

Legend: M images · K classes.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from onetok.errors import OnetokError
from onetok.metrics.finite import require_finite


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over splits, population


def shuffled(logits: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Return logits (M, K) in an order drawn from `seed`, so that splits of images sorted by class see all classes."""
    return logits[np.random.default_rng(seed).permutation(len(logits))]


def inception_score(logits: NDArray[np.floating], splits: int) -> InceptionScore:
    """Score logits (M, K) in `splits` consecutive parts.

    A part that holds few of the classes scores at most as many as it holds: images that lie in an order of classes
    are `shuffled` first, or scored in one split.

    Raises OnetokError for fewer images than splits, and for logits that are not finite.
    """
    if len(logits) < splits:
        raise OnetokError(
            f"inception score: found {len(logits)} images, expected at least one for each of {splits} splits"
        )
    require_finite(logits, "inception score")
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    edges = np.linspace(0, len(logits), splits + 1).astype(int)
    scores = [_score(log_p[a:b]) for a, b in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: NDArray[np.float64]) -> float:
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))  # (K,); no class's probability vanishes in it
    divergence = (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)
    return float(np.exp(divergence.mean()))
