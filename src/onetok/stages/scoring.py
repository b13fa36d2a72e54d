"""What the score stages share: a benchmark's extractors, its reference features, and the file of scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.numpy import load_file
from torch import Tensor

from onetok import durable
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.metrics.features import FeatureExtractor, Features, extract_features
from onetok.metrics.suites import Splits
from onetok.params import Reference
from onetok.registry import load_encoder
from onetok.stages.runtime import Context

Suite = Callable[[Features, Features], dict[str, float]]
SUFFIXES = {"encoder": "", "judge": "_judge"}


def load_extractors(benchmark: Reference, device: torch.device) -> dict[str, FeatureExtractor]:
    """Return the benchmark's encoder and its judge."""
    names = {"encoder": benchmark.encoder, "judge": benchmark.judge}
    return {role: load_encoder(name, device) for role, name in names.items()}


def open_reference(benchmark: Reference) -> Shards:
    """Open the images that a benchmark compares with.

    Raises OnetokError where they are not as many as it expects: a set that lacks some has another distance, without
    any sign of it.
    """
    shards = Shards(Path("results/datasets") / benchmark.dataset / "shards" / benchmark.split)
    if len(shards) != benchmark.reference_images:
        raise OnetokError(
            f"{benchmark.dataset}: its {benchmark.split} split has {len(shards)} images, reference_images of the"
            f" benchmark expects {benchmark.reference_images}"
        )
    return shards


def splits_of(benchmark: Reference) -> Splits:
    return Splits(benchmark.inception_splits, benchmark.inception_shuffle_seed)


def score_features(
    context: Context, benchmark_name: str, benchmark: Reference, batches: Iterable[Tensor], suite: Suite
) -> dict[str, float]:
    """Run a suite on images, batches (b, 3, H, W) uint8, by the benchmark's encoder and by its judge."""
    reference = load_file(Path("results/references") / benchmark_name / "features.safetensors")
    ours = extract_features(load_extractors(benchmark, context.device), batches, context.device)
    scores: dict[str, float] = {}
    for role, features in ours.items():
        theirs = Features(reference[f"{role}.features"], reference[f"{role}.logits"])
        scores |= {f"{metric}{SUFFIXES[role]}": value for metric, value in suite(theirs, features).items()}
    return scores


def write_scores(folder: Path, scores: Mapping[str, float | None]) -> None:
    """Write scores.json; null is what does not apply, such as codebook usage without a codebook.

    Raises OnetokError for a score that is no number: JSON has none for it, and nobody could use it.
    """
    durable.write_json(folder / "scores.json", dict(scores))
