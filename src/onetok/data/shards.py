"""Shards: webdataset tar files with fixed metadata, and an index for random access to their samples.

    shards/<split>/shard-000000.tar     <key>.png|jpg|…  <key>.cls  [<key>.txt]  [<key>.json]
    shards/<split>/index.npy            one row for each sample: key, label, shard, offsets and sizes of its files

The library `webdataset` can read the tars in sequence. Training reads them by index, so that the order of samples is a
function of (seed, step) alone (docs/decisions/0002-random-access-shards.md).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from onetok import durable
from onetok.data.arrays import save_array
from onetok.data.sources import Sample
from onetok.errors import OnetokError
from onetok.study.schema.records import Record, read_record, write_record


def write_shards(samples: Iterable[Sample], directory: Path, samples_per_shard: int) -> int:
    """Write shards and their index; return the number of samples. The same samples give the same bytes.

    Raises OnetokError where two samples have the same key, and where there is no sample.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for shard, chunk in enumerate(_chunks(samples, samples_per_shard)):
        path = directory / f"shard-{shard:06d}.tar"
        keys = [sample.key for sample in chunk]
        for key in keys:
            if key in seen:
                raise OnetokError(f"{directory}: two samples have the key {key!r}, expected unique keys")
            seen.add(key)
        # Fixed owner, mode and time, because a tar file records them and two runs would give different bytes.
        with durable.writing(path) as stream:
            writer = webdataset.TarWriter(
                stream, encoder=False, mtime=0, user="onetok", group="onetok", mode=0o644
            )
            for sample in chunk:
                writer.write(_members(sample))
            writer.close()
        rows += _locate(path, shard, keys, {sample.key: sample for sample in chunk})
    if not rows:
        raise OnetokError(f"{directory}: no samples to write")
    dtype = _index_dtype(max(len(row["key"]) for row in rows), any(row["record_size"] for row in rows))
    index = np.array([tuple(row[name] for name in dtype.names or ()) for row in rows], dtype=dtype)
    save_array(directory / "index.npy", index)
    return len(rows)


def _index_dtype(key_width: int, records: bool) -> np.dtype[Any]:
    columns = [
        ("key", f"S{key_width}"),
        ("label", "<i4"),
        ("shard", "<u4"),
        ("image_offset", "<u8"),
        ("image_size", "<u4"),
        ("caption_offset", "<u8"),  # 0 where there is no caption
        ("caption_size", "<u4"),
    ]
    if records:
        columns += [("record_offset", "<u8"), ("record_size", "<u4")]  # size 0 where there is no record
    return np.dtype(columns)


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _members(sample: Sample) -> dict[str, Any]:
    members: dict[str, Any] = {"__key__": sample.key, sample.suffix: sample.image}
    members["cls"] = str(sample.label).encode()
    if sample.caption is not None:
        members["txt"] = sample.caption.encode("utf-8")
    if sample.record is not None:
        members["json"] = write_record(sample.record)
    return members


def _locate(path: Path, shard: int, keys: list[str], samples: dict[str, Sample]) -> list[dict[str, Any]]:
    """Return the rows of the index of one shard: the offsets and sizes of its members, as the written tar has them."""
    with tarfile.open(path) as tar:
        spans = {member.name: (member.offset_data, member.size) for member in tar}
    rows = []
    for key in keys:
        row: dict[str, Any] = {"key": key.encode(), "label": samples[key].label, "shard": shard}
        row["image_offset"], row["image_size"] = spans[f"{key}.{samples[key].suffix}"]
        for member, suffix in (("caption", "txt"), ("record", "json")):  # not every sample has them
            row[f"{member}_offset"], row[f"{member}_size"] = spans.get(f"{key}.{suffix}", (0, 0))
        rows.append(row)
    return rows


class Shards:
    """Random access to the samples of one split: encoded images, labels, captions and records.

    Raises OnetokError where there is no index.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "index.npy"
        if not path.exists():
            raise OnetokError(f"{path}: no such file, expected the index of a converted dataset")
        self.directory = directory
        self.index = np.load(path, mmap_mode="r")

    def __reduce__(self) -> tuple[type[Shards], tuple[Path]]:
        return Shards, (self.directory,)  # so a worker process maps the index itself and gets no copy

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return the class labels of all samples, (M,) int32."""
        return np.asarray(self.index["label"])

    def key(self, i: int) -> str:
        """Return the key of sample `i`, which no other sample of the split has."""
        return bytes(self.index["key"][i]).decode()

    def describe(self, i: int) -> str:
        """Return the name of sample `i` for error messages: the folder and the key."""
        return f"{self.directory}: sample {self.key(i)}"

    def image(self, i: int) -> bytes:
        """Return the encoded image file of sample `i`, the bytes of the source."""
        return self._read(i, "image")

    def caption(self, i: int) -> str:
        """Return the caption of sample `i`, which may be empty. Raises OnetokError for a sample without one."""
        if not self.index["caption_offset"][
            i
        ]:  # not 0 for an empty caption: a tar header comes before its content
            raise OnetokError(
                f"{self.directory}: sample {self.key(i)} has no caption, expected {self.key(i)}.txt"
            )
        return self._read(i, "caption").decode("utf-8")

    def check_captions(self) -> None:
        """Raise OnetokError if any sample has no caption, before hours of work on the others."""
        lacking = np.flatnonzero(self.index["caption_offset"] == 0)
        if len(lacking):
            self.caption(int(lacking[0]))

    def record(self, i: int) -> Record:
        """Return the record of sample `i`: aesthetic score, augmented caption, prompt.

        Raises OnetokError for a sample without a record, and for a record that is not valid.
        """
        if "record_size" not in self.index.dtype.names or not self.index["record_size"][i]:
            raise OnetokError(
                f"{self.directory}: sample {self.key(i)} has no record, expected {self.key(i)}.json"
            )
        return read_record(self._read(i, "record"), f"{self.directory}: {self.key(i)}.json")

    def _read(self, i: int, member: str) -> bytes:
        row = self.index[i]
        path = self.directory / f"shard-{row['shard']:06d}.tar"
        with path.open("rb") as stream:
            stream.seek(int(row[f"{member}_offset"]))
            content = stream.read(int(row[f"{member}_size"]))
        if len(content) != row[f"{member}_size"]:
            raise OnetokError(f"{path}: truncated: sample {self.key(i)} ends beyond the file")
        return content
