"""Pass a benchmark's reference images through its feature extractors, once for all scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from onetok.data.images import image_batches
from onetok.data.shards import Shards
from onetok.metrics.features import extract_features
from onetok.progress import track
from onetok.registry import load_model
from onetok.stages.runtime import Context, main


def measure_reference(context: Context) -> None:
    entry = context.study.benchmarks[context.job.name]
    shards = Shards(Path("results/datasets") / entry.dataset / "shards" / entry.split)
    tensors: dict[str, NDArray[np.float32]] = {}
    for role, name in (("encoder", entry.encoder), ("judge", entry.judge)):
        if name is None:
            continue
        extractor = load_model(Path("results/encoders") / name, context.device)
        total = -(-len(shards) // entry.batch)
        label = f"measure_reference {context.job.name} {role}"
        batches = track(image_batches(shards, entry.images, entry.batch), label, "batches", total)
        features = extract_features(extractor, batches, context.device)
        tensors |= {f"{role}.features": features.features, f"{role}.logits": features.logits}
    save_file(tensors, context.folder / "features.safetensors")


if __name__ == "__main__":
    main("measure_reference", measure_reference)
