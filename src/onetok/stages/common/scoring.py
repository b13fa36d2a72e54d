"""Common steps of the scoring stages: a benchmark's feature extractors and reference features, and scores.json.

Legend: b images of a batch · H,W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from onetok import durable
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.metrics.features import FeatureExtractor, Features, extract_features
from onetok.metrics.features import Reference as KeptReference
from onetok.metrics.reference_files import read_reference
from onetok.metrics.suites import Splits
from onetok.stages.common.runtime import Context
from onetok.study.schema.benchmarks import Reference, ReferenceSplit
from onetok.systems.saved import StudyArtefacts

Suite = Callable[[KeptReference, Features], dict[str, float | None]]
SUFFIXES = {"encoder": "", "second_encoder": "_second"}


def load_extractors(benchmark: Reference, device: torch.device) -> dict[str, FeatureExtractor]:
    """Return the benchmark's feature extractors by role: "encoder" and "second_encoder"."""
    names = {"encoder": benchmark.encoder, "second_encoder": benchmark.second_encoder}
    made = StudyArtefacts(device)
    return {role: cast(FeatureExtractor, made.encoder(name)) for role, name in names.items()}


def open_reference(benchmark: ReferenceSplit) -> Shards:
    """Return the shards of a benchmark's reference images.

    Raises OnetokError if their number is not the benchmark's, because FID depends on it and would not show it.
    """
    shards = Shards(Path("results/datasets") / benchmark.dataset / "shards" / benchmark.split)
    if len(shards) != benchmark.reference_images:
        raise OnetokError(
            f"{benchmark.dataset}: its {benchmark.split} split has {len(shards)} images, reference_images of the"
            f" benchmark expects {benchmark.reference_images}"
        )
    return shards


def splits_of(benchmark: Reference) -> Splits:
    """Return the splits of a benchmark's Inception Score."""
    return Splits(benchmark.inception_splits, benchmark.inception_shuffle_seed)


def score_features(
    context: Context, benchmark_name: str, benchmark: Reference, batches: Iterable[Tensor], suite: Suite
) -> dict[str, float | None]:
    """Return a suite's metrics of images, batches (b, 3, H, W) uint8, by both feature extractors of the benchmark.

    Names of metrics by the second extractor end in "_second".
    """
    reference = read_reference(Path("results/references") / benchmark_name / "reference.safetensors")
    extractors = load_extractors(benchmark, context.device)
    known = {role: extractor for role, extractor in extractors.items() if role in reference}
    ours = extract_features(known, batches, context.device)
    scores: dict[str, float | None] = {}
    for role, features in ours.items():
        found = suite(reference[role], features)
        scores |= {f"{metric}{SUFFIXES[role]}": value for metric, value in found.items()}
    # Published statistics alone are those of the first network.
    for role in extractors.keys() - reference.keys():
        scores |= dict.fromkeys(f"{metric}{SUFFIXES[role]}" for metric in [*scores] if metric != "sfid")
    return scores


def write_scores(folder: Path, scores: Mapping[str, float | None]) -> None:
    """Write scores.json, with null for scores that do not apply, such as codebook usage without a codebook.

    Raises OnetokError for a score that is NaN or infinite, which JSON cannot hold.
    """
    durable.write_json(folder / "scores.json", dict(scores))
