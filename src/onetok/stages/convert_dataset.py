"""Converts a source of images to webdataset shards, one folder for each split."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from onetok.data.shards import Shards, write_shards
from onetok.data.sources import read_splits, report
from onetok.durable import write_json
from onetok.progress import track
from onetok.stages.common.runtime import Context, main

SHOWN = 5  # classes that a line names


def convert_dataset(context: Context) -> None:
    """Write shards/ and report.json."""
    dataset = context.study.datasets[context.job.name]
    if not context.processes.is_main_process:
        return
    splits, labels = read_splits(dataset), {}
    for split, samples in splits.items():
        label = f"convert_dataset {context.job.name} {split}"
        tracked = track(samples, label, "images", total=len(samples))
        folder = context.folder / "shards" / split
        write_shards(tracked, folder, dataset.samples_per_shard)
        labels[split] = Shards(folder).labels
    found = report(splits, labels)
    write_json(context.folder / "report.json", found, sort_keys=False)
    for line in _lines(found):
        print(f"convert_dataset {context.job.name}: {line}", file=sys.stderr, flush=True)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the summary of a report, a line each."""
    images = ", ".join(f"{split} {count}" for split, count in found["images"].items())
    yield f"{len(found['classes'])} classes, images: {images}"
    for skipped in found["skipped"]:
        more = ", …" if skipped["count"] > len(skipped["first"]) else ""
        yield f"skipped {skipped['count']}, {skipped['reason']}: {', '.join(skipped['first'])}{more}"
    for split in found["images"]:
        empty = [each["name"] for each in found["classes"] if each[split] == 0]
        if empty:
            more = ", …" if len(empty) > SHOWN else ""
            yield f"{split} has no image of {len(empty)} classes: {', '.join(empty[:SHOWN])}{more}"


if __name__ == "__main__":
    main("convert_dataset", convert_dataset)
