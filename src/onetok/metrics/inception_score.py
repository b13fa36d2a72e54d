"""Inception score (arXiv 1606.03498): exp of the mean divergence of each image's classes from the average's.

Legend: M images · K classes.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from onetok.errors import OnetokError


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over splits, population


def inception_score(logits: NDArray[np.floating], splits: int) -> InceptionScore:
    """Score logits (M, K) in `splits` consecutive parts, unshuffled."""
    if len(logits) < splits:
        raise OnetokError(
            f"inception score: found {len(logits)} images, expected at least one for each of {splits} splits"
        )
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    edges = np.linspace(0, len(logits), splits + 1).astype(int)
    scores = [_score(log_p[a:b]) for a, b in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: NDArray[np.float64]) -> float:
    p = np.exp(log_p)
    divergence = (p * (log_p - np.log(p.mean(axis=0)))).sum(axis=1)
    return float(np.exp(divergence.mean()))
