"""The texts of a token cache: aesthetic scores, and either the captions themselves or a text encoder's states of them.

aesthetics.npy   (M,) float32 scores

The captions themselves:
texts.bin        all captions in UTF-8, one after the other
spans.npy        (M, 2, 2) int64, offset and size in bytes of caption and augmented caption; size -1 where there is none

A text encoder's states:
sequence.npy     (1 + 2M, T, S) float16, those of "", then of caption and augmented caption of each image in turn;
                 without an augmented caption, those of the caption again
pooled.npy       (1 + 2M, P) float16, in the same order

Legend: M images · b samples · T token ids of a caption · S, P widths of the encoder's states and pooled states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok import durable
from onetok.data.arrays import save_array, writing_rows
from onetok.data.batches import Batch
from onetok.data.captions import CaptionTokenizer
from onetok.data.shards import Shards
from onetok.data.tokens import TokenCache, to_half
from onetok.errors import OnetokError


class Texts(NamedTuple):
    """The captions and the score of one image."""

    caption: str
    augmented: str | None  # a longer caption that a captioning model wrote
    aesthetic: float


def texts_of(shards: Shards, image: int, prefixes: Sequence[str]) -> Texts:
    """Return the texts of an image, its augmented caption without the first of `prefixes` that it starts with.

    Raises OnetokError for a sample without a caption or a record.
    """
    record = shards.record(image)
    augmented = None if record.augmented is None else without_prefix(record.augmented, prefixes)
    return Texts(shards.caption(image), augmented, record.aesthetic)


def without_prefix(caption: str, prefixes: Sequence[str]) -> str:
    """Return a caption without the first of `prefixes` that it starts with, the rest with a capital first letter."""
    for prefix in prefixes:
        if caption.startswith(prefix):
            rest = caption.removeprefix(prefix)
            return rest[:1].upper() + rest[1:]
    return caption


class TextStates(Protocol):
    """A text encoder's output for b captions."""

    @property
    def penultimate(self) -> Tensor:
        """(b, T, S), the input of the last block."""

    @property
    def pooled(self) -> Tensor:
        """(b, P), one projected state of the whole caption."""


class TextEncoder(Protocol):
    """A network that encodes captions, such as onetok.networks.clip."""

    @property
    def context_length(self) -> int:
        """T, token ids of a caption."""

    @property
    def text_width(self) -> int:
        """S, width of the states."""

    @property
    def pooled_width(self) -> int:
        """P, width of the pooled states."""

    def encode_text(self, ids: Tensor) -> TextStates:
        """Return the states of token ids (b, T) int64."""
        ...


def write_texts(folder: Path, shards: Shards, prefixes: Sequence[str]) -> None:
    """Write the captions of a split, augmented ones without a leading one of `prefixes`, and the scores.

    Raises OnetokError for a sample without a caption or a record.
    """
    spans, scores = np.full((len(shards), 2, 2), -1, dtype=np.int64), np.empty(len(shards), dtype=np.float32)
    with durable.writing(folder / "texts.bin") as stream:
        for image in range(len(shards)):
            *captions, scores[image] = texts_of(shards, image, prefixes)
            for kind, caption in enumerate(captions):
                if caption is not None:
                    content = caption.encode("utf-8")
                    spans[image, kind] = stream.tell(), len(content)
                    stream.write(content)
    save_array(folder / "spans.npy", spans)
    save_array(folder / "aesthetics.npy", scores)


@torch.inference_mode()
def write_states(
    folder: Path,
    shards: Shards,
    prefixes: Sequence[str],
    encoder: TextEncoder,
    batch: int,
    device: torch.device,
) -> None:
    """Write the encoder's states of the captions of a split, `batch` images at a time, and the scores.

    Augmented captions are encoded without a leading one of `prefixes`.

    Raises OnetokError for a sample without a caption or a record, and for states outside float16's range.
    """
    tokenize, rows = CaptionTokenizer(encoder.context_length), 1 + 2 * len(shards)
    scores = np.empty(len(shards), dtype=np.float32)
    shapes = {
        "sequence": (rows, encoder.context_length, encoder.text_width),
        "pooled": (rows, encoder.pooled_width),
    }
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(writing_rows(folder / f"{name}.npy", shape, np.float16))
            for name, shape in shapes.items()
        }

        def write(captions: Sequence[str]) -> None:
            states = encoder.encode_text(tokenize(captions).to(device))
            found = {"sequence": states.penultimate, "pooled": states.pooled}
            for name, values in found.items():
                files[name].append(to_half(values.cpu().numpy(), "a state of the text encoder"))

        write([""])
        for first in range(0, len(shards), batch):
            images = range(first, min(first + batch, len(shards)))
            texts = [texts_of(shards, image, prefixes) for image in images]
            scores[images] = [text.aesthetic for text in texts]
            pairs = [
                (text.caption, text.caption if text.augmented is None else text.augmented) for text in texts
            ]
            write([caption for pair in pairs for caption in pair])
    save_array(folder / "aesthetics.npy", scores)


class TextCache:
    """Reads, for each of given images, one of its captions or that caption's states, and its aesthetic score.

    Raises OnetokError where the cache holds no texts.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "aesthetics.npy"
        if not path.exists():
            raise OnetokError(
                f"{path}: no such file, expected a token cache with captions (tokens: captions)"
            )
        self.folder = folder
        self.aesthetics = np.load(path)
        self.encoded = (folder / "sequence.npy").exists()
        names = ("sequence", "pooled") if self.encoded else ("spans",)
        self.arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}

    def __reduce__(self) -> tuple[type[TextCache], tuple[Path]]:
        return TextCache, (self.folder,)  # so a worker process maps the files itself and gets no copy

    def texts(self, images: NDArray[np.int64], augmented: NDArray[np.bool_]) -> list[str]:
        """Return a caption of each of images (b,): the augmented one where augmented (b,) is true and there is one."""
        spans = self.arrays["spans"][images]  # (b, 2, 2)
        kinds = (augmented & (spans[:, 1, 1] >= 0)).astype(np.int64)
        with (self.folder / "texts.bin").open("rb") as stream:
            return [_read(stream, *span) for span in spans[np.arange(len(images)), kinds]]

    def captions(self) -> Iterator[str]:
        """Yield the caption of every image, then the augmented caption of every image, or again the caption."""
        for augmented in (False, True):
            for start in range(0, len(self.aesthetics), 1000):
                images = np.arange(start, min(start + 1000, len(self.aesthetics)))
                yield from self.texts(images, np.full(len(images), augmented))

    def states(self, images: NDArray[np.int64], augmented: NDArray[np.bool_]) -> dict[str, Tensor]:
        """Return `sequence` (b, T, S) and `pooled` (b, P) float32 of the captions that `texts` chooses."""
        return self._rows(1 + 2 * images + augmented)

    def empty_states(self) -> dict[str, Tensor]:
        """Return `sequence` (1, T, S) and `pooled` (1, P) float32 of the empty caption."""
        return self._rows(np.zeros(1, dtype=np.int64))

    def _rows(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array[rows].astype(np.float32)) for name, array in self.arrays.items()}


def _read(stream: BinaryIO, offset: int, size: int) -> str:
    stream.seek(offset)
    return stream.read(size).decode("utf-8")


def drawn_augmented(positions: NDArray[np.int64], seed: int, share: float) -> NDArray[np.bool_]:
    """Return which samples at these positions (b,) get augmented captions, a function of (seed, position)."""
    uniform = [np.random.default_rng([seed, 3, int(position)]).random() for position in positions]
    return np.array(uniform) < share


@dataclass(frozen=True)
class ShardCaptions:
    """Reads training batches of captions alone from a split of a dataset, each caption or its augmented caption."""

    shards: Shards
    augmented: float  # share of samples that get the augmented caption, where there is one
    seed: int
    tokenize: CaptionTokenizer

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        """Return the token ids of the captions of samples `indices` (b,) at `positions` (b,)."""
        chosen = drawn_augmented(positions, self.seed, self.augmented)
        ids = self.tokenize(
            [self.caption(int(i), bool(longer)) for i, longer in zip(indices, chosen, strict=True)]
        )
        return Batch.of(ids, torch.from_numpy(self.shards.labels[indices].astype(np.int64)), captions=ids)

    def caption(self, image: int, augmented: bool) -> str:
        """Return the caption of an image, or its augmented caption if that is asked for and there is one."""
        longer = self.shards.record(image).augmented if augmented else None
        return self.shards.caption(image) if longer is None else longer

    def seen(self) -> list[int]:
        """Return the token ids of all captions that training can read, in ascending order."""
        kinds = [kind for kind, share in ((False, 1 - self.augmented), (True, self.augmented)) if share > 0]
        captions = {self.caption(image, kind) for image in range(len(self.shards)) for kind in kinds}
        return sorted(self.tokenize(sorted(captions)).unique().tolist())


@dataclass(frozen=True)
class CaptionedTokens:
    """Reads training batches of tokens with captions.

    Whether a sample gets its caption or its augmented caption is random, seeded by (seed, position).
    """

    tokens: TokenCache
    texts: TextCache
    augmented: float  # share of samples that get the augmented caption, where there is one
    seed: int
    tokenize: CaptionTokenizer

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        """Return tokens, labels, captions or their states, and scores of samples `indices` (b,) at `positions` (b,)."""
        batch = self.tokens(positions, indices)
        images = indices // self.tokens.views
        augmented = drawn_augmented(positions, self.seed, self.augmented)
        if self.texts.encoded:
            texts = self.texts.states(images, augmented)
        else:
            texts = {"captions": self.tokenize(self.texts.texts(images, augmented))}
        aesthetics = torch.from_numpy(self.texts.aesthetics[images][:, None])  # (b, 1)
        return batch._replace(aesthetics=aesthetics, **texts)
