"""Values that are no numbers, found before arithmetic hides them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onetok.errors import OnetokError


def require_finite(rows: NDArray[np.floating[Any]], metric: str, first: int = 0) -> None:
    """Check that a row of numbers for each image (M, F) has no NaN and no infinity; `first` is the number of row 0.

    Raises OnetokError that names the metric, the image and the place in its row.
    """
    wrong = np.argwhere(~np.isfinite(rows))
    if len(wrong):
        image, place = (int(number) for number in wrong[0])
        images = len(np.unique(wrong[:, 0]))
        found = f"value {place} of image {first + image} is {rows[image, place]}"
        raise OnetokError(
            f"{metric}: {found} ({images} of {len(rows)} images have such), expected finite numbers"
        )
