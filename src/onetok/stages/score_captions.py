"""Scores generated captions against the captions that a dataset has of the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.metrics.caption_overlap import overlap_scores
from onetok.metrics.scene_captions import facts_of, is_exact
from onetok.stages.caption_images import read_captions
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import open_reference, write_scores
from onetok.study.schema.benchmarks import CaptionBenchmark
from onetok.systems.saved import StudyArtefacts


def score_captions(context: Context) -> None:
    """Write scores.json."""
    name = context.job.name
    entry = context.study.captions[name]
    benchmark = context.study.benchmarks[entry.benchmark]
    assert isinstance(benchmark, CaptionBenchmark)
    shards = open_reference(benchmark)
    shards.check_captions()
    captions = read_captions(shards, Path("results/captions") / name / "captions.jsonl")
    generator = StudyArtefacts(context.device).generator(entry.generator)
    scores: dict[str, float | None] = {
        "images": len(captions),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "distinct": len(set(captions)),
        **caption_scores(captions, shards, benchmark),
    }
    control = caption_scores(random_captions(benchmark, len(shards)), shards, benchmark)
    write_scores(context.folder, scores | {f"{metric}_random": score for metric, score in control.items()})


def caption_scores(
    captions: list[str], shards: Shards, benchmark: CaptionBenchmark
) -> dict[str, float | None]:
    """Return the scores of a caption of each image of a split, by the names of tables."""
    references = [[shards.caption(i)] for i in range(len(shards))]
    scores = overlap_scores(captions, references, java=benchmark.java)
    if benchmark.exact is None:
        return scores | {"exact": None, "exact_held_out": None}
    exact, held_out = exact_scores(captions, shards)
    return scores | {
        "exact": float(exact.mean()),
        "exact_held_out": float(exact[held_out].mean()) if held_out.any() else None,
    }


def exact_scores(captions: list[str], shards: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Return whether the caption of each scene is exact, and whether the scene is of the held-out ones, (M,) bool each.

    Raises OnetokError for an image whose record does not say what it shows.
    """
    exact, held_out = np.zeros(len(shards), dtype=bool), np.zeros(len(shards), dtype=bool)
    for i, caption in enumerate(captions):
        record = shards.record(i)
        if record.augmented is None or record.prompt is None:
            raise OnetokError(
                f"{shards.directory}: sample {shards.key(i)} has no facts of a scene in its record"
            )
        exact[i], held_out[i] = is_exact(caption, facts_of(record.augmented)), record.prompt.held_out
    return exact, held_out


def random_captions(benchmark: CaptionBenchmark, images: int) -> list[str]:
    """Return captions that are drawn at random from the dataset's train split."""
    train = Shards(Path("results/datasets") / benchmark.dataset / "shards/train")
    rows = np.random.default_rng(benchmark.random_seed).integers(len(train), size=images)
    return [train.caption(int(row)) for row in rows]


if __name__ == "__main__":
    main("score_captions", score_captions)
