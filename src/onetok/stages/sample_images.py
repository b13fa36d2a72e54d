"""Samples the images of a generator, each a function of (seed, number), and decodes them.

Legend: b images of a micro-batch · N tokens · C token channels · T text states · S width of a text state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onetok.data.arrays import save_array
from onetok.data.captions import report_truncated_captions
from onetok.data.images import encode_png
from onetok.data.levels import to_levels
from onetok.data.shards import write_shards
from onetok.data.sources import Sample
from onetok.data.tokens import id_dtype
from onetok.networks.caption_conditions import EncodedCaptions
from onetok.networks.clip import CaptionStates
from onetok.nn.protocols import tokens_from_sampled
from onetok.nn.text_condition import TextCondition
from onetok.report.contact_sheet import grid, save_picture
from onetok.sampling.seeds import ImageRandom
from onetok.stages.common.captions import derangement
from onetok.stages.common.parts import Arrays, work_in_parts
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import open_reference
from onetok.study.schema.benchmarks import SampledBenchmark
from onetok.study.schema.generators import CaptionEntry, ClassEntry
from onetok.study.schema.study import Samples, TextSampling
from onetok.systems.registry import generator_system
from onetok.systems.saved import StudyArtefacts
from onetok.training.tokenizer_losses import caption_states

SHEET_COLUMNS = 12  # largest number of rows (classes) and columns of the contact sheet
SAMPLES_PER_SHARD = 10_000


@dataclass(frozen=True)
class MicroBatches:
    """A function from a part's number to the numbers of its images.

    Parts have the size of params for any number of processes, because pixels may depend on the batch in low bits.
    """

    count: int
    size: int

    def __call__(self, part: int) -> range:
        return range(part * self.size, min((part + 1) * self.size, self.count))


class Condition(NamedTuple):
    """The conditions of b images."""

    generator: Tensor | TextCondition  # the generator's condition: labels (b,) int64 or encoded captions
    decoder: Tensor | None  # text states (b, T, S) for the tokenizer's decoder, if it takes text


class Conditions(Protocol):
    """The condition, class label and caption of every image of a set, by its number."""

    @property
    def cycle(self) -> int:
        """Rows of the contact sheet: image i is in row i % cycle."""

    def of(self, images: Sequence[int]) -> Condition:
        """Return the conditions of images, given their numbers."""
        ...

    def label(self, image: int) -> int:
        """Return the class label of an image."""
        ...

    def caption(self, image: int) -> str | None:
        """Return the caption of an image; None for class-conditional generators."""
        ...


@dataclass(frozen=True)
class ClassConditions:
    """Image i is of class i % K, so that any number of images is spread evenly over the K classes."""

    cycle: int  # K
    device: torch.device

    def of(self, images: Sequence[int]) -> Condition:
        labels = torch.tensor([self.label(image) for image in images], device=self.device)
        return Condition(labels, None)

    def label(self, image: int) -> int:
        return image % self.cycle

    def caption(self, image: int) -> str | None:
        return None


class CaptionConditions:
    """Image i has the caption of image i % M of a split of M images or, if captions are shuffled, of another image.

    Raises OnetokError for a split with an image without a caption.
    """

    cycle = SHEET_COLUMNS

    def __init__(
        self,
        context: Context,
        entry: Samples,
        text: TextSampling,
        encoder: EncodedCaptions,
        decoder: CaptionStates | None,
    ) -> None:
        benchmark = context.study.benchmarks[entry.benchmark]
        assert isinstance(benchmark, SampledBenchmark)
        self.shards = open_reference(benchmark)
        self.shards.check_captions()
        captions = (self.shards.caption(i) for i in range(len(self.shards)))
        report_truncated_captions(
            f"sample_images {context.job.name}", captions, encoder.tokenize.context_length
        )
        self.groups = len(self.shards)  # M; the number of samples is a multiple of it
        self.order = np.arange(self.groups)
        if text.captions == "shuffled":
            self.order = derangement(self.groups, [entry.seed, self.groups])
        self.aesthetic, self.encoder, self.decoder, self.device = (
            text.aesthetic,
            encoder,
            decoder,
            context.device,
        )

    def of(self, images: Sequence[int]) -> Condition:
        captions = [self.caption(image) for image in images]
        texts = None
        if self.decoder is not None:
            texts = self.decoder(self.decoder.tokenize(captions).to(self.device))
        return Condition(self.encoder.of(captions, self.aesthetic), texts)

    def label(self, image: int) -> int:
        return int(self.shards.labels[image % self.groups])

    def caption(self, image: int) -> str:
        return self.shards.caption(int(self.order[image % self.groups]))


def sample_images(context: Context) -> None:
    """Write shards/, tokens.npy and contact-sheet.png."""
    entry, count = context.study.samples[context.job.name], context.job.params["images"]
    made = StudyArtefacts(context.device)
    generator = made.generator(entry.generator)
    system = generator_system(generator)
    tokenizer = made.tokenizer(context.job.params["tokenizer"])
    settings, conditions = entry.sampling, conditions_of(context, entry)
    eight_bits = context.job.params["eight_bits"]

    @torch.inference_mode()
    def sample(part: int, images: Sequence[int]) -> Arrays:
        condition = conditions.of(images)
        random = ImageRandom(entry.seed, images, context.device)
        tokens = system.sample(generator, condition.generator, settings, random)
        decoded = tokenizer.decode(tokens_from_sampled(tokenizer, tokens), condition.decoder)
        what = f"{context.job.name}, from image {images[0]}"
        pixels = to_levels(decoded, eight_bits, what).cpu().numpy()
        return {"pixels": pixels, "tokens": to_kept(tokens, tokenizer.codebook_size)}

    parts = -(-count // entry.micro_batch)
    micro_batches = MicroBatches(count, entry.micro_batch)
    label = f"sample_images {context.job.name}"
    computed = work_in_parts(context, parts, micro_batches, sample, label, "micro-batches")
    if computed is None:
        return
    parts_made = list(computed)
    save_array(context.folder / "tokens.npy", np.concatenate([arrays["tokens"] for arrays in parts_made]))
    pixels = np.concatenate([arrays["pixels"] for arrays in parts_made])
    samples = (
        Sample(f"sample-{i:06d}", encode_png(image), "png", conditions.label(i), conditions.caption(i))
        for i, image in enumerate(pixels)
    )
    write_shards(samples, context.folder / "shards", SAMPLES_PER_SHARD)
    rows = min(conditions.cycle, SHEET_COLUMNS, count)
    columns = max(1, min(SHEET_COLUMNS, count // conditions.cycle))
    shown = [row + conditions.cycle * column for row in range(rows) for column in range(columns)]
    save_picture(grid(pixels[shown], columns=columns), context.folder / "contact-sheet.png")


def to_kept(sampled: Tensor, codebook_size: int | None) -> NDArray[Any]:
    """Return sampled tokens in the form of tokens.npy: ids (b, N) of the smallest dtype, or latents (b, N, C)."""
    tokens: NDArray[Any] = sampled.cpu().numpy()
    return tokens if codebook_size is None else tokens.astype(id_dtype(codebook_size))


def conditions_of(context: Context, entry: Samples) -> Conditions:
    """Return the conditions of an entry of samples, by the kind of its generator."""
    generator = context.study.generators[entry.generator]
    if isinstance(generator, ClassEntry):
        return ClassConditions(generator.classes, context.device)
    assert entry.text is not None and isinstance(generator, CaptionEntry)
    made = StudyArtefacts(context.device)
    encoder = EncodedCaptions(made.text_encoder(generator.text), generator.text_layer)
    tokenizer = context.study.tokenizers[context.job.params["tokenizer"]]
    return CaptionConditions(context, entry, entry.text, encoder, caption_states(tokenizer, made))


if __name__ == "__main__":
    main("sample_images", sample_images)
