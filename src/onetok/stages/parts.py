"""Long work cut into parts that any number of processes share, and that a restart does not repeat."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onetok import durable
from onetok.data.batches import read_ahead
from onetok.progress import track
from onetok.stages.runtime import Context

Arrays = dict[str, NDArray[Any]]
Loaded = TypeVar("Loaded")


def work_in_parts(
    context: Context,
    parts: int,
    load: Callable[[int], Loaded],
    compute: Callable[[int, Loaded], Arrays],
    label: str,
    unit: str,
) -> Iterator[Arrays] | None:
    """Compute parts 0 … parts-1, each a function of its number alone; `load` is what reading processes do ahead.

    Process p of P takes every P-th part; parts that an interrupted run left in scratch are not computed again, unless
    they are damaged. The main process gets them back in order, the others None.
    """
    processes = context.processes
    mine = range(processes.process_index, parts, processes.num_processes)
    context.scratch.mkdir(parents=True, exist_ok=True)
    missing = [part for part in mine if not _is_whole(_path(context, part))]
    loaded = track(read_ahead(load, missing, context.workers), label, unit, total=len(missing))
    for part, item in zip(missing, loaded, strict=True):
        arrays = compute(part, item)
        with durable.writing(_path(context, part)) as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return None
    return _read_parts(context, parts)


def _path(context: Context, part: int) -> Path:
    return context.scratch / f"part-{part:08d}.npz"


def _is_whole(path: Path) -> bool:
    """Return whether a part is there and undamaged; a damaged one is said."""
    if not path.exists():
        return False
    damage = durable.archive_damage(path)
    if damage is not None:
        print(f"{path}: damaged part: {damage}; computed again", file=sys.stderr)
    return damage is None


def _read_parts(context: Context, parts: int) -> Iterator[Arrays]:
    for part in range(parts):
        with np.load(_path(context, part)) as arrays:
            yield dict(arrays)
