"""Training batches as a stateless function of (seed, step): any process, any restart, the same samples.

Legend: B samples of the global batch · b samples of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onetok.data.images import augment
from onetok.data.shards import Shards
from onetok.params import TrainingImages


class Batch(NamedTuple):
    inputs: Tensor  # images (b, 3, S, S) uint8, or token ids (b, N) int64
    labels: Tensor  # (b,) int64


ReadBatch = Callable[[NDArray[np.int64], NDArray[np.int64]], Batch]


def sample_indices(
    seed: int, step: int, batch: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (positions, indices) of the global batch of `step`, each (B,).

    Position p counts samples since the start; epoch p // length visits every index once, in an order of its own.
    """
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    indices = np.empty_like(positions)
    for epoch in np.unique(positions // length):
        here = positions // length == epoch
        indices[here] = _epoch_order(seed, int(epoch), length)[positions[here] % length]
    return positions, indices


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


class _Steps(Dataset[Batch]):
    """Item = step: this process's share of the global batch."""

    def __init__(self, read: ReadBatch, length: int, seed: int, batch: int, rank: int, world: int) -> None:
        self.read, self.length, self.seed, self.batch = read, length, seed, batch
        self.share = slice(rank * batch // world, (rank + 1) * batch // world)

    def __getitem__(self, step: int) -> Batch:
        positions, indices = sample_indices(self.seed, step, self.batch, self.length)
        return self.read(positions[self.share], indices[self.share])


def batches(
    read: ReadBatch,
    *,
    length: int,
    seed: int,
    batch: int,
    start: int,
    stop: int,
    rank: int,
    world: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's share of the global batches of steps start .. stop-1, read by `workers` processes."""
    steps = _Steps(read, length, seed, batch, rank, world)
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    yield from loader


class AugmentedImages:
    """Reads training views of shards; the view at position p is drawn from (seed, p)."""

    def __init__(self, shards: Shards, images: TrainingImages, seed: int) -> None:
        self.shards, self.images, self.seed = shards, images, seed

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        views = [
            augment(self.shards.image(int(i)), self.images, np.random.default_rng([self.seed, 1, int(p)]))
            for p, i in zip(positions, indices, strict=True)
        ]
        labels: NDArray[Any] = self.shards.labels[indices].astype(np.int64)
        return Batch(torch.from_numpy(np.stack(views)), torch.from_numpy(labels))
