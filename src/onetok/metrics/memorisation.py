"""Memorisation: how many samples are a sequence of tokens that training saw.

Legend: I samples · M images · V views · N tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 2**20  # of the cache that are looked at together


def memorised_share(drawn: NDArray[Any], cache: NDArray[Any]) -> float | None:
    """Return the share of samples (I, N) whose ids are those of a view in a token cache (M, V, N).

    None for latents, which are never equal.
    """
    if not (np.issubdtype(drawn.dtype, np.integer) and np.issubdtype(cache.dtype, np.integer)):
        return None
    wanted = _as_items(drawn)
    found = np.zeros(len(wanted), dtype=bool)
    images = max(1, ROWS // cache.shape[1])
    for start in range(0, len(cache), images):  # the cache is larger than the memory may be
        seen = cache[start : start + images].reshape(-1, cache.shape[-1]).astype(drawn.dtype)
        found |= np.isin(wanted, _as_items(seen))
    return float(found.mean())


def _as_items(rows: NDArray[Any]) -> NDArray[np.void]:
    """Return each row as one item, which compares equal where the whole row does."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
