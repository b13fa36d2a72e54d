"""What a token cache keeps of the texts of its images: captions or their encoder's states, and aesthetic scores.

aesthetics.npy   (M,) float32
texts.bin        all captions in UTF-8, one after the other                                    captions as they are
spans.npy        (M, 2, 2) int64, offset and size of caption and augmented caption, size -1 for none
sequence.npy     (1 + 2M, T, S) float16, of "", then of caption and augmented caption in turn  what an encoder makes
pooled.npy       (1 + 2M, P) float16, the same; without an augmented caption the caption's again

Legend: M images · b samples · T token ids of a caption · S, P widths of the encoder's states and pooled states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

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
from onetok.models.text_encoder import CLIP


class Texts(NamedTuple):
    """What is said of an image."""

    caption: str
    augmented: str | None
    aesthetic: float


def texts_of(shards: Shards, image: int, prefixes: Sequence[str]) -> Texts:
    """Return what is said of an image, its augmented caption without a prefix.

    Raises OnetokError for a sample without a caption or a record.
    """
    record = shards.record(image)
    augmented = None if record.augmented is None else without_prefix(record.augmented, prefixes)
    return Texts(shards.caption(image), augmented, record.aesthetic)


def without_prefix(caption: str, prefixes: Sequence[str]) -> str:
    """Return a caption without the first of the prefixes that it starts with, its first letter then a capital."""
    for prefix in prefixes:
        if caption.startswith(prefix):
            rest = caption.removeprefix(prefix)
            return rest[:1].upper() + rest[1:]
    return caption


def write_texts(folder: Path, shards: Shards, prefixes: Sequence[str]) -> None:
    """Write the captions of a split, augmented ones without any of `prefixes`, and the scores.

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
    folder: Path, shards: Shards, prefixes: Sequence[str], encoder: CLIP, batch: int, device: torch.device
) -> None:
    """Write what `encoder` makes of the captions of a split, `batch` images at a time, and the scores.

    Augmented captions lose any of `prefixes`.

    Raises OnetokError for a sample without a caption or a record, and for states that float16 cannot hold.
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
    """Reads one caption of each of some images, the augmented one where it is asked for and there is one."""

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
        return TextCache, (
            self.folder,
        )  # a reading process maps the files itself: pickling would copy them whole

    def texts(self, images: NDArray[np.int64], augmented: NDArray[np.bool_]) -> list[str]:
        spans = self.arrays["spans"][images]  # (b, 2, 2)
        kinds = (augmented & (spans[:, 1, 1] >= 0)).astype(np.int64)
        with (self.folder / "texts.bin").open("rb") as stream:
            return [_read(stream, *span) for span in spans[np.arange(len(images)), kinds]]

    def captions(self) -> Iterator[str]:
        """Yield the captions of every image, then where there are others the augmented ones."""
        for augmented in (False, True):
            for start in range(0, len(self.aesthetics), 1000):
                images = np.arange(start, min(start + 1000, len(self.aesthetics)))
                yield from self.texts(images, np.full(len(images), augmented))

    def states(self, images: NDArray[np.int64], augmented: NDArray[np.bool_]) -> dict[str, Tensor]:
        """Return `sequence` (b, T, S) and `pooled` (b, P) float32."""
        return self._rows(1 + 2 * images + augmented)

    def empty_states(self) -> dict[str, Tensor]:
        """Return the same of the empty caption: (1, T, S) and (1, P)."""
        return self._rows(np.zeros(1, dtype=np.int64))

    def _rows(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array[rows].astype(np.float32)) for name, array in self.arrays.items()}


def _read(stream: BinaryIO, offset: int, size: int) -> str:
    stream.seek(offset)
    return stream.read(size).decode("utf-8")


@dataclass(frozen=True)
class CaptionedTokens:
    """Reads training batches of tokens with captions; which caption a sample gets is drawn from (seed, position)."""

    tokens: TokenCache
    texts: TextCache
    augmented: float  # share of samples that get the augmented caption, where there is one
    seed: int
    tokenize: CaptionTokenizer

    def __call__(self, positions: NDArray[np.int64], indices: NDArray[np.int64]) -> Batch:
        batch = self.tokens(positions, indices)
        images = indices // self.tokens.views
        draws = [np.random.default_rng([self.seed, 3, int(position)]).random() for position in positions]
        augmented = np.array(draws) < self.augmented
        if self.texts.encoded:
            texts = self.texts.states(images, augmented)
        else:
            texts = {"captions": self.tokenize(self.texts.texts(images, augmented))}
        aesthetics = torch.from_numpy(self.texts.aesthetics[images][:, None])  # (b, 1)
        return batch._replace(aesthetics=aesthetics, **texts)
