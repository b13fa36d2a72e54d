"""Encodes every view of every image of a split to tokens, so that generators train without the tokenizer.

Legend: b images of a batch · V views (crops, mirrored or not) of an image · S side of a view in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.arrays import save_array, writing_rows
from onetok.data.captions import report_truncated_captions
from onetok.data.images import five_crops, prepare, to_float
from onetok.data.shards import Shards
from onetok.data.texts import texts_of, write_states, write_texts
from onetok.data.tokens import to_stored
from onetok.stages.common.parts import Arrays, work_in_parts
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.tokens import CachedStates, Captions, Tokens
from onetok.systems.saved import StudyArtefacts


def views(content: bytes, entry: Tokens, name: str = "image") -> NDArray[np.uint8]:
    """Return the views of an image file, (V, 3, S, S) uint8, mirrored ones last; errors call it `name`."""
    if entry.crops == "five":
        return np.stack(five_crops(content, entry.images, entry.flip, name))
    crop = prepare(content, entry.images, name)
    return np.stack([crop, crop[:, :, ::-1]] if entry.flip else [crop])


@dataclass(frozen=True)
class Views:
    """A function from a part's number to the views of its images, (b, V, 3, S, S) uint8."""

    shards: Shards
    entry: Tokens

    def __call__(self, part: int) -> Tensor:
        batch = self.entry.batch
        rows = range(part * batch, min((part + 1) * batch, len(self.shards)))
        batch_views = [views(self.shards.image(i), self.entry, self.shards.describe(i)) for i in rows]
        return torch.from_numpy(np.stack(batch_views))


def cache_tokens(context: Context) -> None:
    """Write tokens.npy, labels.npy, keys.npy and, where params ask for them, captions/."""
    entry = context.study.tokens[context.job.name]
    shards = Shards(Path("results/datasets") / entry.dataset / "shards" / entry.split)
    tokenizer = StudyArtefacts(context.device).tokenizer(entry.tokenizer)

    @torch.inference_mode()
    def encode(part: int, pixels: Tensor) -> Arrays:
        images = to_float(pixels.flatten(0, 1).to(context.device))  # (b·V, 3, S, S)
        stored = to_stored(tokenizer.encode(images), tokenizer.codebook_size)
        return {"tokens": stored.reshape(*pixels.shape[:2], *stored.shape[1:])}

    parts = -(-len(shards) // entry.batch)
    label = f"cache_tokens {context.job.name}"
    encoded = work_in_parts(context, parts, Views(shards, entry), encode, label, "batches")
    if encoded is None:
        return
    tokens = (arrays["tokens"] for arrays in encoded)
    first = next(tokens)
    with writing_rows(context.folder / "tokens.npy", (len(shards), *first.shape[1:]), first.dtype) as rows:
        for part in chain([first], tokens):
            rows.append(part)
    save_array(context.folder / "labels.npy", shards.labels)
    save_array(context.folder / "keys.npy", np.asarray(shards.index["key"]))
    if entry.captions is not None:
        cache_captions(entry.captions, entry.batch, shards, context)


def cache_captions(captions: Captions, batch: int, shards: Shards, context: Context) -> None:
    """Write the captions of a split, or a text encoder's states of them, and the aesthetic scores."""
    folder = context.folder / "captions"
    folder.mkdir()
    prefixes = captions.augmented_prefixes
    if isinstance(captions, CachedStates):
        encoder = StudyArtefacts(context.device).text_encoder(captions.text)
        texts = (texts_of(shards, image, prefixes) for image in range(len(shards)))
        captions_of_texts = (
            caption for text in texts for caption in (text.caption, text.augmented) if caption is not None
        )
        report_truncated_captions(
            f"cache_tokens {context.job.name}", captions_of_texts, encoder.context_length
        )
        write_states(folder, shards, prefixes, encoder, batch, context.device)
    else:
        write_texts(folder, shards, prefixes)


if __name__ == "__main__":
    main("cache_tokens", cache_tokens)
