"""The token cache: every view of every image as ids, memory-mapped.

ids.npy      (M, V, N) smallest unsigned integer that fits the codebook: M images, V views, N tokens
labels.npy   (M,) int32
keys.npy     (M,) bytes, the keys of the shards
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onetok.data.batches import Batch, no_captions
from onetok.errors import OnetokError


def id_dtype(codebook_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds codebook_size - 1."""
    return np.min_scalar_type(codebook_size - 1)


class TokenCache:
    """Reads training batches of ids; item i is view i % V of image i // V."""

    def __init__(self, directory: Path) -> None:
        path = directory / "ids.npy"
        if not path.exists():
            raise OnetokError(f"{path}: no such file, expected a token cache")
        self.directory = directory
        self.ids = np.load(path, mmap_mode="r")
        self.labels = np.load(directory / "labels.npy", mmap_mode="r")
        if len(self.labels) != len(self.ids):
            raise OnetokError(f"{directory}: {len(self.ids)} images but {len(self.labels)} labels")

    def __reduce__(self) -> tuple[type[TokenCache], tuple[Path]]:
        return TokenCache, (
            self.directory,
        )  # a reading process maps the files itself: pickling would copy them whole

    def __len__(self) -> int:
        return int(self.ids.shape[0] * self.ids.shape[1])

    @property
    def length(self) -> int:
        """N, tokens an image."""
        return int(self.ids.shape[2])

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        image, view = np.divmod(indices, self.ids.shape[1])
        ids = torch.from_numpy(self.ids[image, view].astype(np.int64))
        labels = torch.from_numpy(self.labels[image].astype(np.int64))
        return Batch(ids, labels, no_captions(len(indices)))
