"""Codebook usage and entropy.

Legend: K codebook entries.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class CodebookUse(NamedTuple):
    """The use of a codebook in a set of token ids."""

    usage: float  # share of the K entries that occur, in [0, 1]
    entropy: float  # of the ids' empirical distribution in bits, in [0, log2 K]


def codebook_use(ids: NDArray[Any], codebook_size: int) -> CodebookUse:
    """Return usage and entropy of a codebook of K entries in ids, an array of any shape of integers in [0, K)."""
    counts = np.bincount(ids.reshape(-1), minlength=codebook_size)  # (K,)
    p = counts[counts > 0] / counts.sum()
    return CodebookUse(usage=float((counts > 0).mean()), entropy=float(-(p * np.log2(p)).sum()))
