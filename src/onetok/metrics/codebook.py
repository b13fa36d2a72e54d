"""How a codebook is used. Legend: M images · N tokens · K entries."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class CodebookUse(NamedTuple):
    usage: float  # share of the K entries that occur at all
    entropy: float  # of the empirical distribution, in bits; log2 K at most


def codebook_use(ids: NDArray[Any], codebook_size: int) -> CodebookUse:
    """Count ids of any shape in [0, K)."""
    counts = np.bincount(ids.reshape(-1), minlength=codebook_size)
    p = counts[counts > 0] / counts.sum()
    return CodebookUse(usage=float((counts > 0).mean()), entropy=float(-(p * np.log2(p)).sum()))
