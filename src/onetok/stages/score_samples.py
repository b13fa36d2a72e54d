"""Scores generated images against a benchmark's reference images.

Legend: b images of a batch · H,W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onetok.data.images import decode
from onetok.data.shards import Shards
from onetok.data.tokens import TokenCache
from onetok.errors import OnetokError
from onetok.metrics.memorisation import memorised_share
from onetok.metrics.pixels import is_blank
from onetok.metrics.suites import generation_suite
from onetok.progress import track
from onetok.stages.common.captions import CLIPScores, GenEvalScores, build_detector, check_prompts
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import open_reference, score_features, splits_of, write_scores
from onetok.study.schema.benchmarks import SampledBenchmark, TextToImageBenchmark
from onetok.study.schema.generators import TrainedGenerator
from onetok.systems.saved import StudyArtefacts


def score_samples(context: Context) -> None:
    """Write scores.json."""
    name = context.job.name
    entry = context.study.samples[name]
    benchmark_name = entry.benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    assert isinstance(benchmark, SampledBenchmark)
    shards = Shards(Path("results/samples") / name / "shards")
    if len(shards) != benchmark.samples:
        # FID depends on the number of samples, and nothing in the figure shows it: 8.7 for 2.77 has been reported.
        raise OnetokError(f"{name}: found {len(shards)} samples, the benchmark expects {benchmark.samples}")
    pictures, asked = Pictures(benchmark.blank_deviation), None
    if isinstance(benchmark, TextToImageBenchmark):
        asked = CaptionScores(context, benchmark, open_reference(benchmark))
    total = -(-len(shards) // benchmark.batch)
    batches = pictures.accumulate(
        track(read_batches(shards, benchmark.batch), f"score_samples {name}", "batches", total)
    )
    labels = shards.labels if benchmark.class_accuracy else None
    scores: dict[str, float | None] = {}
    scores |= score_features(
        context,
        benchmark_name,
        benchmark,
        asked.accumulate(batches) if asked is not None else batches,
        partial(
            generation_suite,
            labels=labels,
            splits=splits_of(benchmark),
            neighbours=benchmark.neighbours,
        ),
    )
    generator = StudyArtefacts(context.device).generator(entry.generator)
    scores |= {
        "images": len(shards),
        **pictures.scores(),
        "parameters": sum(p.numel() for p in generator.parameters()),
    }
    source = context.study.generators[entry.generator]
    if isinstance(source, TrainedGenerator):
        samples = np.load(Path("results/samples") / name / "tokens.npy")
        cache = TokenCache(Path("results/tokens") / source.tokens)
        scores["memorised"] = memorised_share(samples, cache.tokens)
    else:
        scores["memorised"] = None  # the training data of a released generator is not part of the study
    if asked is not None:
        scores |= asked.scores()
    write_scores(context.folder, scores)


@dataclass
class Pictures:
    """Counts distinct and blank images."""

    blank_deviation: float  # threshold of `is_blank`
    digests: list[bytes] = field(default_factory=list)  # of each image's pixels
    blank: int = 0

    def accumulate(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, H, W) uint8 as they are."""
        for pixels in batches:
            self.digests += [hashlib.sha256(picture.tobytes()).digest() for picture in pixels.numpy()]
            self.blank += int(is_blank(pixels, self.blank_deviation).sum())
            yield pixels

    def scores(self) -> dict[str, float | None]:
        """Return the scores by the names of tables."""
        return {"distinct": len(set(self.digests)), "blank": self.blank / len(self.digests)}


class CaptionScores:
    """Accumulates CLIP scores and, if the benchmark has a detector, GenEval of samples.

    Sample i has the caption of image i % M of the reference split of M images.
    """

    def __init__(self, context: Context, benchmark: TextToImageBenchmark, reference: Shards) -> None:
        check_prompts(reference, benchmark.prompts)
        self.reference = reference
        encoder = StudyArtefacts(context.device).text_encoder(benchmark.clip)
        self.clip = CLIPScores(encoder, self.reference, context.device)
        detector = build_detector(context.study, benchmark, benchmark.detector)
        self.geneval = GenEvalScores(detector) if detector is not None else None

    def accumulate(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, H, W) uint8 as they are."""
        matched = self.clip.accumulate(batches)
        return self.geneval.accumulate(matched) if self.geneval is not None else matched

    def scores(self) -> dict[str, float | None]:
        """Return the scores by the names of tables."""
        seen = self.geneval.scores(self.reference) if self.geneval is not None else {}
        return self.clip.scores() | seen


def read_batches(shards: Shards, batch: int) -> Iterator[Tensor]:
    """Yield all images of shards in order, in batches (b, 3, H, W) uint8."""
    for start in range(0, len(shards), batch):
        images = [
            decode(shards.image(i), shards.describe(i)) for i in range(start, min(start + batch, len(shards)))
        ]
        arrays = [np.asarray(image).transpose(2, 0, 1) for image in images]
        yield torch.from_numpy(np.stack(arrays))


if __name__ == "__main__":
    main("score_samples", score_samples)
