"""Measures a benchmark's reference images, once for all scores: means, covariances, and features of a part of them."""

from __future__ import annotations

from pathlib import Path

from onetok.data.batches import image_batches
from onetok.errors import OnetokError
from onetok.metrics.features import Reference, feature_parts, measure
from onetok.metrics.reference_files import published_images, read_published, write_reference
from onetok.progress import track
from onetok.release.download import fetch
from onetok.stages.common.runtime import Context, main
from onetok.stages.common.scoring import load_extractors, open_reference
from onetok.study.schema.benchmarks import GenerationBenchmark, SampledBenchmark
from onetok.study.schema.benchmarks import Reference as ReferenceParams


def measure_reference(context: Context) -> None:
    """Write reference.safetensors."""
    entry = context.study.benchmarks[context.job.name]
    assert isinstance(entry, ReferenceParams)
    if isinstance(entry, GenerationBenchmark) and entry.statistics is not None:
        found = measure_published(context, entry, fetch(entry.statistics))
    else:
        found = measure_split(context, entry)
    write_reference(context.folder / "reference.safetensors", found)


def measure_split(context: Context, entry: ReferenceParams) -> dict[str, Reference]:
    """Return what is kept of the images of the benchmark's split, by role."""
    shards = open_reference(entry)
    batches = -(-len(shards) // entry.batch)
    images = image_batches(shards, entry.images, entry.batch, context.workers)
    tracked = track(images, f"measure_reference {context.job.name}", "batches", batches)
    parts = feature_parts(load_extractors(entry, context.device), tracked, context.device)
    manifold = entry.manifold_images if isinstance(entry, SampledBenchmark) else 0
    return measure(parts, len(shards), manifold, classes=entry.class_accuracy)


def measure_published(context: Context, entry: GenerationBenchmark, path: Path) -> dict[str, Reference]:
    """Return what is kept of a file of the ADM evaluator, by role.

    Means and covariances of the file are Inception's. What it does not hold is measured on its images. Without images
    there is nothing for precision and recall, and nothing of the second network.

    Raises OnetokError for statistics of another network's features, and as read_published does.
    """
    published = read_published(path)
    if published.pooled is not None and not published.images:
        return {"encoder": Reference(published.pooled, published.spatial, None, None)}
    manifold = min(entry.manifold_images, published.images)
    batches = track(
        published_images(path, entry.batch),
        f"measure_reference {context.job.name}",
        "batches",
        -(-published.images // entry.batch),
    )
    parts = feature_parts(load_extractors(entry, context.device), batches, context.device)
    found = measure(parts, published.images, manifold, classes=False)
    if published.pooled is None:
        return found
    own = found["encoder"]
    for name, theirs, ours in (
        ("mu", published.pooled, own.statistics),
        ("mu_s", published.spatial, own.spatial),
    ):
        if theirs is not None and ours is not None and theirs.mean.shape != ours.mean.shape:
            raise OnetokError(f"{path}: {name} is {theirs.mean.shape}, {entry.encoder} has {ours.mean.shape}")
    return {**found, "encoder": own._replace(statistics=published.pooled, spatial=published.spatial)}


if __name__ == "__main__":
    main("measure_reference", measure_reference)
