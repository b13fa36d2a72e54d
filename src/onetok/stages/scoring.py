"""What the score stages share: a benchmark's extractors, its reference features, and the file of scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.numpy import load_file
from torch import Tensor

from onetok.metrics.features import FeatureExtractor, Features, extract_features
from onetok.params import Reference
from onetok.registry import load_encoder
from onetok.stages.runtime import Context

Suite = Callable[[Features, Features], dict[str, float]]
SUFFIXES = {"encoder": "", "judge": "_judge"}


def load_extractors(benchmark: Reference, device: torch.device) -> dict[str, FeatureExtractor]:
    """Return the benchmark's encoder and its judge."""
    names = {"encoder": benchmark.encoder, "judge": benchmark.judge}
    return {role: load_encoder(name, device) for role, name in names.items()}


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
    """Write scores.json; null is what does not apply, such as codebook usage without a codebook."""
    (folder / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")
