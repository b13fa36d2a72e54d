"""Inception Score (arXiv 1606.03498): exp of the mean KL divergence of p(class | image) from the marginal p(class).

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
    """The score of a set of images, between 1 and the number of classes K."""

    mean: float  # over splits
    std: float  # over splits, of the population


def shuffled(logits: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Return logits (M, K) in a random order, so that every split of images sorted by class holds all classes."""
    return logits[np.random.default_rng(seed).permutation(len(logits))]


def inception_score(logits: NDArray[np.floating], splits: int) -> InceptionScore:
    """Return the score of logits (M, K), computed in each of `splits` consecutive parts.

    The score of a part is at most the number of classes in it. Images that are sorted by class must therefore be
    `shuffled` first, or scored in one split.

    Raises OnetokError for fewer images than splits, and for logits that are not finite.
    """
    if len(logits) < splits:
        raise OnetokError(
            f"inception score: found {len(logits)} images, expected at least one for each of {splits} splits"
        )
    require_finite(logits, "inception score")
    log_p = log_softmax(logits.astype(np.float64), axis=1)  # (M, K)
    edges = np.linspace(0, len(logits), splits + 1).astype(int)
    scores = [_score(log_p[a:b]) for a, b in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: NDArray[np.float64]) -> float:
    # (K,), the log of the marginal; logsumexp keeps probabilities that are too small for float64.
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    divergence = (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)  # (M,)
    return float(np.exp(divergence.mean()))
