"""Extracts the features of a benchmark's reference images, once for all scores."""

from __future__ import annotations

from safetensors.numpy import save_file

from onetok import durable
from onetok.data.batches import image_batches
from onetok.metrics.features import extract_features
from onetok.progress import track
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import load_extractors, open_reference


def measure_reference(context: Context) -> None:
    """Write features.safetensors: features and logits of both extractors."""
    entry = context.study.benchmarks[context.job.name]
    shards = open_reference(entry)
    images = image_batches(shards, entry.images, entry.batch, context.workers)
    tracked = track(
        images, f"measure_reference {context.job.name}", "batches", -(-len(shards) // entry.batch)
    )
    found = extract_features(load_extractors(entry, context.device), tracked, context.device)
    tensors = {f"{role}.features": features.features for role, features in found.items()}
    tensors |= {f"{role}.logits": features.logits for role, features in found.items()}
    with durable.replacing(context.folder / "features.safetensors") as path:
        save_file(tensors, path)


if __name__ == "__main__":
    main("measure_reference", measure_reference)
