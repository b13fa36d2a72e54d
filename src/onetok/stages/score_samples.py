"""Score generated images against a benchmark's reference."""

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
from onetok.params import SampledBenchmark, TextToImageBenchmark, TrainedGenerator
from onetok.progress import track
from onetok.registry import load_encoder, load_model
from onetok.stages.captions import Matched, Watched, build_detector, check_prompts
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import open_reference, score_features, splits_of, write_scores


def score_samples(context: Context) -> None:
    name = context.job.name
    entry = context.study.samples[name]
    benchmark_name = entry.benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    assert isinstance(benchmark, SampledBenchmark)
    shards = Shards(Path("results/samples") / name / "shards")
    if len(shards) != benchmark.samples:
        # Fewer samples give another FID without any sign of it: 8.7 for 2.77 has been reported.
        raise OnetokError(f"{name}: found {len(shards)} samples, the benchmark expects {benchmark.samples}")
    reference, pictures = open_reference(benchmark), Pictures(benchmark.blank_deviation)
    asked = (
        CaptionScores(context, benchmark, reference) if isinstance(benchmark, TextToImageBenchmark) else None
    )
    total = -(-len(shards) // benchmark.batch)
    batches = pictures.pass_by(
        track(read(shards, benchmark.batch), f"score_samples {name}", "batches", total)
    )
    labels = shards.labels if benchmark.class_accuracy else None
    scores: dict[str, float | None] = {}
    scores |= score_features(
        context,
        benchmark_name,
        benchmark,
        asked.pass_by(batches) if asked is not None else batches,
        partial(
            generation_suite,
            labels=labels,
            splits=splits_of(benchmark),
            manifold_images=benchmark.manifold_images,
            neighbours=benchmark.neighbours,
        ),
    )
    generator = load_model(Path("results/generators") / entry.generator, context.device)
    scores |= {
        "images": len(shards),
        **pictures.scores(),
        "parameters": sum(p.numel() for p in generator.parameters()),
    }
    source = context.study.generators[entry.generator]
    if isinstance(source, TrainedGenerator):
        drawn = np.load(Path("results/samples") / name / "tokens.npy")
        cache = TokenCache(Path("results/tokens") / source.tokens)
        scores["memorised"] = memorised_share(drawn, cache.tokens)
    else:
        scores["memorised"] = None  # what a released generator was trained on is not here
    if asked is not None:
        scores |= asked.scores()
    write_scores(context.folder, scores)


@dataclass
class Pictures:
    """What is counted of samples that pass by: how many differ, and how many show nothing."""

    blank_deviation: float
    digests: list[bytes] = field(default_factory=list)  # of each picture
    blank: int = 0

    def pass_by(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, H, W) uint8 as they are."""
        for pixels in batches:
            self.digests += [hashlib.sha256(picture.tobytes()).digest() for picture in pixels.numpy()]
            self.blank += int(is_blank(pixels, self.blank_deviation).sum())
            yield pixels

    def scores(self) -> dict[str, float | None]:
        """Return the scores by the names of tables."""
        return {"distinct": len(set(self.digests)), "blank": self.blank / len(self.digests)}


class CaptionScores:
    """How well samples that pass by show the captions of the reference split, which take turns."""

    def __init__(self, context: Context, benchmark: TextToImageBenchmark, reference: Shards) -> None:
        check_prompts(reference, benchmark.prompts)
        self.reference = reference
        encoder = load_encoder(benchmark.clip, context.device)
        self.matched = Matched(encoder, self.reference, context.device)
        detector = build_detector(context.study, benchmark, benchmark.detector)
        self.watched = Watched(detector) if detector is not None else None

    def pass_by(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the batches (b, 3, H, W) uint8 as they are."""
        matched = self.matched.pass_by(batches)
        return self.watched.pass_by(matched) if self.watched is not None else matched

    def scores(self) -> dict[str, float | None]:
        """Return the scores by the names of tables."""
        seen = self.watched.scores(self.reference) if self.watched is not None else {}
        return self.matched.scores() | seen


def read(shards: Shards, batch: int) -> Iterator[Tensor]:
    """Yield batches (b, 3, H, W) uint8."""
    for start in range(0, len(shards), batch):
        images = [
            decode(shards.image(i), shards.place(i)) for i in range(start, min(start + batch, len(shards)))
        ]
        arrays = [np.asarray(image).transpose(2, 0, 1) for image in images]
        yield torch.from_numpy(np.stack(arrays))


if __name__ == "__main__":
    main("score_samples", score_samples)
