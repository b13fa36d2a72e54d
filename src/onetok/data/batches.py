"""Training batches as a function of (seed, step) alone: neither a restart nor the number of processes changes them.

Legend: B samples of the global batch · b samples of this process · S side of an image in pixels · N tokens · C token
        channels · T token ids of a caption · W, P widths of a text encoder's states and pooled states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onetok.data.captions import CaptionTokenizer
from onetok.data.images import augment, prepare
from onetok.data.shards import Shards
from onetok.study.schema.datasets import Images, TrainingImages


class Batch(NamedTuple):
    """The inputs of one training step. Text fields that the model does not use have a last axis of length 0."""

    inputs: Tensor  # images (b, 3, S, S) uint8, token ids (b, N) int64, or mean and log-variance (b, 2, N, C)
    labels: Tensor  # (b,) int64 class labels
    captions: Tensor  # (b, T) int64 token ids
    sequence: (
        Tensor  # (b, T, W) float32 a text encoder's states of the captions, where a token cache holds them
    )
    pooled: Tensor  # (b, P) float32 its pooled states
    aesthetics: Tensor  # (b, 1) float32 aesthetic scores

    @classmethod
    def of(cls, inputs: Tensor, labels: Tensor, **texts: Tensor) -> Batch:
        """Return a batch of inputs and labels; text fields that are not given are empty."""
        size = len(labels)
        empty = {"captions": torch.zeros(size, 0, dtype=torch.int64), "sequence": torch.zeros(size, 0, 0)}
        empty |= {"pooled": torch.zeros(size, 0), "aesthetics": torch.zeros(size, 0)}
        return cls(inputs, labels, **(empty | texts))


def caption_ids(
    shards: Shards, rows: Sequence[int] | NDArray[Any], tokenize: CaptionTokenizer | None
) -> Tensor:
    """Return the captions of the samples `rows` as token ids (b, T) int64; T = 0 if `tokenize` is None.

    Raises OnetokError for a sample without a caption.
    """
    if tokenize is None:
        return torch.zeros(len(rows), 0, dtype=torch.int64)
    return tokenize([shards.caption(int(row)) for row in rows])


def caption_batches(
    shards: Shards, rows: NDArray[np.int64], batch: int, tokenize: CaptionTokenizer | None
) -> Iterator[Tensor]:
    """Yield the captions of the samples `rows`, as token ids (≤ batch, T) int64, in batches like `image_batches`."""
    for start in range(0, len(rows), batch):
        yield caption_ids(shards, rows[start : start + batch], tokenize)


ReadBatch = Callable[[NDArray[np.int64], NDArray[np.int64]], Batch]  # (positions (b,), indices (b,)) → batch


def sample_indices(
    seed: int, step: int, batch: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (positions, indices) of the global batch of `step`, each (B,).

    Position p counts samples since the start of training, and an index is one of the `length` samples of the dataset.
    Epoch p // length visits every index once, in a random order that differs from epoch to epoch.
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


Item = TypeVar("Item")


class _Function(Dataset[Item]):
    """A function of an integer as a PyTorch dataset, so that a DataLoader's worker processes can evaluate it."""

    def __init__(self, function: Callable[[int], Item]) -> None:
        self.function = function

    def __getitem__(self, number: int) -> Item:
        return self.function(number)


def read_ahead(function: Callable[[int], Item], numbers: Sequence[int], workers: int) -> Iterator[Item]:
    """Yield function(n) for each number, in order, evaluated in advance by `workers` processes (0: in this process).

    The function must be picklable and depend on its number alone; then the results do not depend on `workers`.
    """
    yield from DataLoader(
        _Function(function),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )


@dataclass(frozen=True)
class _Share:
    """A function from a step to this process's share of its global batch."""

    read: ReadBatch
    length: int
    seed: int
    batch: int
    share: slice

    def __call__(self, step: int) -> Batch:
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
    """Yield this process's share of the global batches of steps start … stop-1, read by `workers` processes.

    Process `rank` of `world` gets rows rank·batch/world … (rank+1)·batch/world - 1 of each batch, rounded down.
    """
    share = slice(rank * batch // world, (rank + 1) * batch // world)
    yield from read_ahead(_Share(read, length, seed, batch, share), range(start, stop), workers)


@dataclass(frozen=True)
class _CentreCrops:
    """A function from a batch's number to its centre crops (≤ batch, 3, S, S) uint8."""

    shards: Shards
    images: Images
    batch: int

    def _prepared(self, i: int) -> NDArray[np.uint8]:
        return prepare(self.shards.image(i), self.images, self.shards.describe(i))

    def __call__(self, number: int) -> Tensor:
        rows = range(number * self.batch, min((number + 1) * self.batch, len(self.shards)))
        return torch.from_numpy(np.stack([self._prepared(i) for i in rows]))


def image_batches(shards: Shards, images: Images, batch: int, workers: int) -> Iterator[Tensor]:
    """Yield the centre crops of a whole split in order: (≤ batch, 3, S, S) uint8."""
    return read_ahead(_CentreCrops(shards, images, batch), range(-(-len(shards) // batch)), workers)


class AugmentedImages:
    """Reads training batches of augmented images from shards.

    The augmentation of the sample at position p is random, seeded by (seed, p). With `tokenize` None, batches hold no
    captions.
    """

    def __init__(
        self, shards: Shards, images: TrainingImages, seed: int, tokenize: CaptionTokenizer | None
    ) -> None:
        self.shards, self.images, self.seed, self.tokenize = shards, images, seed, tokenize

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        """Return images (b, 3, S, S) uint8, labels and captions of the samples `indices` (b,) at `positions` (b,)."""
        augmented = [
            augment(
                self.shards.image(int(i)),
                self.images,
                np.random.default_rng([self.seed, 1, int(p)]),
                self.shards.describe(int(i)),
            )
            for p, i in zip(positions, indices, strict=True)
        ]
        labels: NDArray[Any] = self.shards.labels[indices].astype(np.int64)
        captions = caption_ids(self.shards, indices, self.tokenize)
        return Batch.of(torch.from_numpy(np.stack(augmented)), torch.from_numpy(labels), captions=captions)
