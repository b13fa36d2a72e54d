"""The token cache: the tokens of every view (crop, mirrored or not) of every image, in memory-mapped arrays.

tokens.npy   discrete: (M, V, N) ids in the smallest unsigned integer that fits the codebook;
             continuous: (M, V, 2, N, C) float16, the posterior's mean and log-variance
labels.npy   (M,) int32
keys.npy     (M,) bytes, the keys of the shards
captions/    where params ask for them, see data/texts.py

Legend: M images · V views of an image · B, b samples of a batch · N tokens · C token channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onetok.data.batches import Batch
from onetok.errors import OnetokError
from onetok.nn.quantizers import Tokens


def id_dtype(codebook_size: int) -> np.dtype[Any]:
    """Return the smallest unsigned integer type that holds the largest id, codebook_size - 1."""
    return np.min_scalar_type(codebook_size - 1)


def to_stored(tokens: Tokens, codebook_size: int | None) -> NDArray[Any]:
    """Return a batch in the form of the cache: ids (B, N) of `id_dtype`, or mean and log-variance (B, 2, N, C) float16.

    Raises OnetokError for a posterior with values outside float16's range.
    """
    if tokens.ids is not None and codebook_size is not None:
        return tokens.ids.cpu().numpy().astype(id_dtype(codebook_size))
    assert tokens.posterior is not None
    return to_half(torch.stack(tokens.posterior, dim=1).cpu().numpy(), "a posterior")


def to_half(values: NDArray[np.float32], what: str) -> NDArray[np.float16]:
    """Return values as float16. Raises OnetokError for values outside its range and for NaN; `what` names them."""
    largest = float(np.abs(values).max())
    if not largest <= float(np.finfo(np.float16).max):
        raise OnetokError(f"token cache: {what} holds {largest:.3g}, expected what float16 can hold")
    return values.astype(np.float16)


class TokenCache:
    """Reads training batches from a token cache; sample i is view i % V of image i // V.

    Raises OnetokError where the cache is missing, or where its labels are of another number of images.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "tokens.npy"
        if not path.exists():
            raise OnetokError(f"{path}: no such file, expected a token cache")
        self.directory = directory
        self.tokens = np.load(path, mmap_mode="r")
        self.labels = np.load(directory / "labels.npy", mmap_mode="r")
        if len(self.labels) != len(self.tokens):
            raise OnetokError(f"{directory}: {len(self.tokens)} images but {len(self.labels)} labels")

    def __reduce__(self) -> tuple[type[TokenCache], tuple[Path]]:
        return TokenCache, (self.directory,)  # so a worker process maps the files itself and gets no copy

    def __len__(self) -> int:
        return int(self.tokens.shape[0] * self.tokens.shape[1])

    @property
    def views(self) -> int:
        """V, views of an image."""
        return int(self.tokens.shape[1])

    @property
    def discrete(self) -> bool:
        return bool(np.issubdtype(self.tokens.dtype, np.unsignedinteger))

    @property
    def length(self) -> int:
        """N, tokens of an image."""
        return int(self.tokens.shape[2 if self.discrete else 3])

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        """Return ids (b, N) int64, or mean and log-variance (b, 2, N, C) float32, with labels, of samples `indices`."""
        image, view = np.divmod(indices, self.tokens.shape[1])  # (b,) each
        kind = np.int64 if self.discrete else np.float32
        tokens = torch.from_numpy(self.tokens[image, view].astype(kind))
        labels = torch.from_numpy(self.labels[image].astype(np.int64))
        return Batch.of(tokens, labels)
