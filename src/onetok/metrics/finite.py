"""A check for NaN and infinity before a metric's arithmetic, which could hide them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onetok.errors import OnetokError


def require_finite(rows: NDArray[np.floating[Any]], metric: str, first: int = 0) -> None:
    """Raise OnetokError if rows (M, F), one for each image, hold NaN or infinity; `first` is the number of image 0.

    The error names the metric, the first such image and the index in its row.
    """
    wrong = np.argwhere(~np.isfinite(rows))
    if len(wrong):
        image, column = (int(number) for number in wrong[0])
        images = len(np.unique(wrong[:, 0]))
        found = f"value {column} of image {first + image} is {rows[image, column]}"
        raise OnetokError(
            f"{metric}: {found} ({images} of {len(rows)} images have such), expected finite numbers"
        )
