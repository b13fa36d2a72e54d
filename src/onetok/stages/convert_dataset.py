"""Convert a source of images to webdataset shards, one folder for each split."""

from __future__ import annotations

from onetok.data.shards import write_shards
from onetok.data.sources import read_splits
from onetok.progress import track
from onetok.stages.runtime import Context, main


def convert_dataset(context: Context) -> None:
    dataset = context.study.datasets[context.job.name]
    if not context.processes.is_main_process:
        return
    for split, samples in read_splits(dataset).items():
        label = f"convert_dataset {context.job.name} {split}"
        tracked = track(samples, label, "images", total=len(samples))
        write_shards(tracked, context.folder / "shards" / split, dataset.samples_per_shard)


if __name__ == "__main__":
    main("convert_dataset", convert_dataset)
