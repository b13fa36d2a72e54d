"""Captions the images of a benchmark, each caption a function of (seed, number of the image).

captions.jsonl has a line for each image: {"key": of the image in its dataset, "caption": text, "seed": of the set}.

Legend: b images of a micro-batch · N tokens · C token channels · S side of an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok import durable
from onetok.data.captions import captions_of
from onetok.data.images import prepare, to_float
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.sampling.seeds import ImageRandom
from onetok.stages.common.parts import Arrays, work_in_parts
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import open_reference
from onetok.study.schema.datasets import Images
from onetok.systems.registry import generator_system
from onetok.systems.saved import StudyArtefacts


class Captioned(NamedTuple):
    """The images of a micro-batch."""

    numbers: Sequence[int]  # of the images in their split
    pixels: Tensor  # (b, 3, S, S) uint8


@dataclass(frozen=True)
class MicroBatches:
    """A function from a part's number to its images."""

    shards: Shards
    images: Images
    size: int

    def __call__(self, part: int) -> Captioned:
        numbers = range(part * self.size, min((part + 1) * self.size, len(self.shards)))
        pixels: list[NDArray[np.uint8]] = [
            prepare(self.shards.image(i), self.images, self.shards.describe(i)) for i in numbers
        ]
        return Captioned(numbers, torch.from_numpy(np.stack(pixels)))


def caption_images(context: Context) -> None:
    """Write captions.jsonl."""
    entry = context.study.captions[context.job.name]
    benchmark = context.study.benchmarks[entry.benchmark]
    shards = open_reference(benchmark)
    made = StudyArtefacts(context.device)
    generator = made.generator(entry.generator)
    system = generator_system(generator)
    tokenizer = made.tokenizer(context.job.params["tokenizer"])
    text = made.text_tokenizer(context.job.params["text_tokenizer"])

    @torch.inference_mode()
    def caption(part: int, images: Captioned) -> Arrays:
        posterior = tokenizer.encode(to_float(images.pixels.to(context.device))).posterior  # (b, N, C)
        assert posterior is not None, "a captioner reads continuous tokens"
        random = ImageRandom(entry.seed, images.numbers, context.device)
        tokens = system.sample(generator, posterior, entry.sampling, random)  # (b, N, C)
        return {"ids": text.decode(tokens).cpu().numpy()}

    parts = -(-len(shards) // entry.micro_batch)
    label = f"caption_images {context.job.name}"
    load = MicroBatches(shards, benchmark.images, entry.micro_batch)
    computed = work_in_parts(context, parts, load, caption, label, "micro-batches")
    if computed is None:
        return
    ids = np.concatenate([arrays["ids"] for arrays in computed])
    write_captions(shards, captions_of(torch.from_numpy(ids)), entry.seed, context.folder / "captions.jsonl")


def write_captions(shards: Shards, captions: Iterable[str], seed: int, path: Path) -> None:
    """Write the captions of all images of a split, in their order."""
    lines = [
        json.dumps({"key": shards.key(i), "caption": caption, "seed": seed}, ensure_ascii=False)
        for i, caption in enumerate(captions)
    ]
    durable.write_text(path, "".join(f"{line}\n" for line in lines))


def read_captions(shards: Shards, path: Path) -> list[str]:
    """Return the captions of all images of a split. Raises OnetokError for a file of other images."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found, expected = [line["key"] for line in lines], [shards.key(i) for i in range(len(shards))]
    if found != expected:
        text = f"{len(found)} captions of other images than the {len(expected)} of {shards.directory}"
        raise OnetokError(f"{path}: {text}")
    return [line["caption"] for line in lines]


if __name__ == "__main__":
    main("caption_images", caption_images)
