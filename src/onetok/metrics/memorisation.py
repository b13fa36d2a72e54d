"""Memorisation: the share of samples whose token sequence is equal to one of the training set.

Legend: I samples · M training images · V views of an image · N tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 2**20  # token sequences of the cache that are compared at a time


def memorised_share(samples: NDArray[Any], cache: NDArray[Any]) -> float | None:
    """Return the share, in [0, 1], of samples (I, N) whose ids equal those of a view in a token cache (M, V, N).

    Returns None for continuous tokens, which are never equal.
    """
    if not (np.issubdtype(samples.dtype, np.integer) and np.issubdtype(cache.dtype, np.integer)):
        return None
    wanted = _as_items(samples)  # (I,)
    found = np.zeros(len(wanted), dtype=bool)
    images = max(1, ROWS // cache.shape[1])
    for start in range(0, len(cache), images):  # in parts, because the cache may exceed the memory
        seen = cache[start : start + images].reshape(-1, cache.shape[-1]).astype(samples.dtype)
        found |= np.isin(wanted, _as_items(seen))
    return float(found.mean())


def _as_items(rows: NDArray[Any]) -> NDArray[np.void]:
    """Return rows (n, N) as n items of raw bytes (n,), which are equal if the whole rows are."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
