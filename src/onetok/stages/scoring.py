"""What both score stages share: the extractors of a benchmark, its reference features, and the file of scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors.numpy import load_file
from torch import Tensor

from onetok.errors import OnetokError
from onetok.metrics.features import Features, extract_features
from onetok.params import Reference
from onetok.progress import track
from onetok.registry import load_model
from onetok.stages.runtime import Context

Suite = Callable[[Features, Features], dict[str, float]]


def score_features(
    context: Context, benchmark_name: str, benchmark: Reference, pixels: Tensor, suite: Suite
) -> dict[str, float]:
    """Run a suite on images (M, 3, H, W) uint8 with the benchmark's extractor, and with its judge if it has one."""
    path = Path("results/references") / benchmark_name / "features.safetensors"
    reference = load_file(path)
    scores: dict[str, float] = {}
    for role, name, suffix in (("encoder", benchmark.encoder, ""), ("judge", benchmark.judge, "_judge")):
        if name is None:
            continue
        if f"{role}.features" not in reference:
            raise OnetokError(f"{path}: no tensor {role}.features, expected the benchmark's reference")
        extractor = load_model(Path("results/encoders") / name, context.device)
        batches = track_batches(pixels, benchmark.batch, f"{context.job.stage} {context.job.name} {role}")
        ours = extract_features(extractor, batches, context.device)
        theirs = Features(reference[f"{role}.features"], reference[f"{role}.logits"])
        scores |= {f"{metric}{suffix}": value for metric, value in suite(theirs, ours).items()}
    return scores


def track_batches(pixels: Tensor, batch: int, label: str) -> Iterator[Tensor]:
    return track(pixels.split(batch), label, "batches")


def write_scores(folder: Path, scores: dict[str, float]) -> None:
    (folder / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")
