"""Score generated images against a benchmark's reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from onetok.data.images import decode
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.metrics.suites import generation_suite
from onetok.params import GenerationBenchmark
from onetok.stages.runtime import Context, main
from onetok.stages.scoring import score_features, write_scores


def score_samples(context: Context) -> None:
    name = context.job.name
    benchmark_name = context.study.samples[name].benchmark
    benchmark = context.study.benchmarks[benchmark_name]
    assert isinstance(benchmark, GenerationBenchmark)
    shards = Shards(Path("results/samples") / name / "shards")
    if len(shards) != benchmark.samples:
        # Fewer samples give another FID without any sign of it: 8.7 for 2.77 has been reported.
        raise OnetokError(f"{name}: found {len(shards)} samples, the benchmark expects {benchmark.samples}")
    images = [np.asarray(decode(shards.image(i))).transpose(2, 0, 1) for i in range(len(shards))]
    pixels = torch.from_numpy(np.stack(images))
    scores: dict[str, float] = {
        "images": len(shards),
        "distinct": len({image.tobytes() for image in images}),
    }
    labels = shards.labels if benchmark.class_accuracy else None
    scores |= score_features(
        context,
        benchmark_name,
        benchmark,
        pixels,
        lambda a, b: generation_suite(a, b, labels, benchmark.inception_splits, benchmark.neighbours),
    )
    write_scores(context.folder, scores)


if __name__ == "__main__":
    main("score_samples", score_samples)
