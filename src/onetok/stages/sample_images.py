"""Draw images from a generator, each a function of (seed, index), and decode them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from onetok.data.images import encode_png, to_uint8
from onetok.data.shards import write_shards
from onetok.data.sources import Sample
from onetok.registry import build_sampling, load_model, load_tokenizer
from onetok.sampling.seeds import ImageRandom
from onetok.sheets import grid
from onetok.stages.parts import Arrays, work_in_parts
from onetok.stages.runtime import Context, main

SHEET_COLUMNS = 12  # images of each class on the contact sheet, and classes, at most
SAMPLES_PER_SHARD = 10_000


@dataclass(frozen=True)
class MicroBatches:
    """Number of a part → the images in it. Cut by the image's number, never by process: the size is a param."""

    count: int
    size: int

    def __call__(self, part: int) -> range:
        return range(part * self.size, min((part + 1) * self.size, self.count))


def sample_images(context: Context) -> None:
    entry = context.study.samples[context.job.name]
    count, classes = context.job.params["images"], context.study.generators[entry.generator].classes
    generator = load_model(Path("results/generators") / entry.generator, context.device)
    tokenizer = load_tokenizer(context.job.params["tokenizer"], context.device)
    sampling = build_sampling(entry.sampling)

    @torch.inference_mode()
    def draw(part: int, images: range) -> Arrays:
        labels = torch.tensor([label_of(i, classes) for i in images], device=context.device)
        ids = generator.sample(labels, sampling, ImageRandom(entry.seed, images, context.device))
        return {"pixels": to_uint8(tokenizer.decode(tokenizer.tokens_from_ids(ids))).cpu().numpy()}

    parts = -(-count // entry.micro_batch)
    micro_batches = MicroBatches(count, entry.micro_batch)
    label = f"sample_images {context.job.name}"
    drawn = work_in_parts(context, parts, micro_batches, draw, label, "micro-batches")
    if drawn is None:
        return
    pixels = np.concatenate([arrays["pixels"] for arrays in drawn])
    samples = (
        Sample(f"sample-{i:06d}", encode_png(image), "png", label_of(i, classes), None)
        for i, image in enumerate(pixels)
    )
    write_shards(samples, context.folder / "shards", SAMPLES_PER_SHARD)
    rows = min(classes, SHEET_COLUMNS)
    sheet = [c + classes * k for c in range(rows) for k in range(min(SHEET_COLUMNS, count // classes))]
    grid(pixels[sheet], columns=len(sheet) // rows).save(context.folder / "contact-sheet.png")


def label_of(image: int, classes: int) -> int:
    """Return the class of image i: classes take turns, so any number of images is spread evenly."""
    return image % classes


if __name__ == "__main__":
    main("sample_images", sample_images)
