"""Draw images from a generator, each a function of (seed, index), and decode them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.arrays import save_array
from onetok.data.captions import say_cuts
from onetok.data.images import encode_png
from onetok.data.levels import to_levels
from onetok.data.shards import write_shards
from onetok.data.sources import Sample
from onetok.data.tokens import id_dtype
from onetok.models.quantizers import tokens_from_drawn
from onetok.models.text_conditions import EncodedCaptions
from onetok.params import READS_CAPTIONS, SampledBenchmark, Samples, TextSampling
from onetok.registry import (
    build_caption_states,
    build_sampling,
    load_encoder,
    load_model,
    load_tokenizer,
)
from onetok.sampling.seeds import ImageRandom
from onetok.sheets import grid, save_picture
from onetok.stages.captions import of_others
from onetok.stages.parts import Arrays, work_in_parts
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import open_reference

SHEET_COLUMNS = 12  # images of each class on the contact sheet, and classes, at most
SAMPLES_PER_SHARD = 10_000


@dataclass(frozen=True)
class MicroBatches:
    """Number of a part → the images in it. Cut by the image's number, never by process: the size is a param."""

    count: int
    size: int

    def __call__(self, part: int) -> range:
        return range(part * self.size, min((part + 1) * self.size, self.count))


class Asked(NamedTuple):
    """What some images are drawn of."""

    condition: Any  # what the generator reads
    texts: Tensor | None  # what the tokenizer's decoder reads, (b, T, S)


class Subjects(Protocol):
    """What every image of a set is drawn of, by its number."""

    @property
    def cycle(self) -> int:
        """Images after which a row of the contact sheet goes on."""

    def ask(self, images: Sequence[int]) -> Asked: ...

    def label(self, image: int) -> int: ...

    def caption(self, image: int) -> str | None: ...


@dataclass(frozen=True)
class Classes:
    """Classes take turns, so any number of images is spread evenly."""

    cycle: int  # how many there are
    device: torch.device

    def ask(self, images: Sequence[int]) -> Asked:
        labels = torch.tensor([self.label(image) for image in images], device=self.device)
        return Asked(labels, None)

    def label(self, image: int) -> int:
        return image % self.cycle

    def caption(self, image: int) -> str | None:
        return None


class Captions:
    """The captions of a split take turns; shuffled, image i gets the caption of another one."""

    cycle = SHEET_COLUMNS

    def __init__(
        self, context: Context, entry: Samples, text: TextSampling, encoder: EncodedCaptions, decoder: Any
    ) -> None:
        benchmark = context.study.benchmarks[entry.benchmark]
        assert isinstance(benchmark, SampledBenchmark)
        self.shards = open_reference(benchmark)
        self.shards.check_captions()
        captions = (self.shards.caption(i) for i in range(len(self.shards)))
        say_cuts(f"sample_images {context.job.name}", captions, encoder.tokenize.context_length)
        self.groups = len(self.shards)  # of which the number of samples is a multiple
        self.order = np.arange(self.groups)
        if text.captions == "shuffled":
            self.order = of_others(self.groups, [entry.seed, self.groups])
        self.aesthetic, self.encoder, self.decoder, self.device = (
            text.aesthetic,
            encoder,
            decoder,
            context.device,
        )

    def ask(self, images: Sequence[int]) -> Asked:
        captions = [self.caption(image) for image in images]
        scores = torch.full((len(captions),), self.aesthetic, device=self.device)
        texts = None
        if self.decoder is not None:
            texts = self.decoder(self.decoder.tokenize(captions).to(self.device))
        return Asked(self.encoder.of(captions, scores), texts)

    def label(self, image: int) -> int:
        return int(self.shards.labels[image % self.groups])

    def caption(self, image: int) -> str:
        return self.shards.caption(int(self.order[image % self.groups]))


def sample_images(context: Context) -> None:
    entry, count = context.study.samples[context.job.name], context.job.params["images"]
    generator = load_model(Path("results/generators") / entry.generator, context.device)
    tokenizer = load_tokenizer(context.job.params["tokenizer"], context.device)
    sampling, subjects = build_sampling(entry.sampling), subjects_of(context, entry)
    eight_bits = context.job.params["eight_bits"]

    @torch.inference_mode()
    def draw(part: int, images: Sequence[int]) -> Arrays:
        asked = subjects.ask(images)
        drawn = generator.sample(asked.condition, sampling, ImageRandom(entry.seed, images, context.device))
        decoded = tokenizer.decode(tokens_from_drawn(tokenizer, drawn), asked.texts)
        what = f"{context.job.name}, from image {images[0]}"
        pixels = to_levels(decoded, eight_bits, what).cpu().numpy()
        return {"pixels": pixels, "tokens": to_kept(drawn, tokenizer.codebook_size)}

    parts = -(-count // entry.micro_batch)
    micro_batches = MicroBatches(count, entry.micro_batch)
    label = f"sample_images {context.job.name}"
    computed = work_in_parts(context, parts, micro_batches, draw, label, "micro-batches")
    if computed is None:
        return
    drawn = list(computed)
    save_array(context.folder / "tokens.npy", np.concatenate([arrays["tokens"] for arrays in drawn]))
    pixels = np.concatenate([arrays["pixels"] for arrays in drawn])
    samples = (
        Sample(f"sample-{i:06d}", encode_png(image), "png", subjects.label(i), subjects.caption(i))
        for i, image in enumerate(pixels)
    )
    write_shards(samples, context.folder / "shards", SAMPLES_PER_SHARD)
    rows = min(subjects.cycle, SHEET_COLUMNS, count)
    columns = max(1, min(SHEET_COLUMNS, count // subjects.cycle))
    shown = [row + subjects.cycle * column for row in range(rows) for column in range(columns)]
    save_picture(grid(pixels[shown], columns=columns), context.folder / "contact-sheet.png")


def to_kept(drawn: Tensor, codebook_size: int | None) -> NDArray[Any]:
    """Return what a generator drew as it is kept beside the images: ids (b, N) in few bytes, or latents (b, N, C)."""
    tokens: NDArray[Any] = drawn.cpu().numpy()
    return tokens if codebook_size is None else tokens.astype(id_dtype(codebook_size))


def subjects_of(context: Context, entry: Samples) -> Subjects:
    generator = context.study.generators[entry.generator]
    if not isinstance(generator, READS_CAPTIONS):
        return Classes(generator.classes, context.device)
    assert entry.text is not None
    encoder = EncodedCaptions(load_encoder(generator.text, context.device))
    tokenizer = context.study.tokenizers[context.job.params["tokenizer"]]
    return Captions(context, entry, entry.text, encoder, build_caption_states(tokenizer, context.device))


if __name__ == "__main__":
    main("sample_images", sample_images)
