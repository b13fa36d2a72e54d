"""Long computations in parts, which any number of processes share and a restart does not repeat."""

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
from onetok.stages.common.runtime import Context

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
    """Compute parts 0 … parts-1, each a function of its number alone, and return them in order.

    `load` prepares a part in reading processes, in advance, and `compute` gets its result. Process p of P computes
    every P-th part. Undamaged parts of an interrupted run in the scratch folder are not computed again. Only the main
    process gets the parts; the others get None.
    """
    processes = context.processes
    own = range(processes.process_index, parts, processes.num_processes)
    context.scratch.mkdir(parents=True, exist_ok=True)
    missing = [part for part in own if not _is_undamaged(_path(context, part))]
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


def _is_undamaged(path: Path) -> bool:
    """Return whether a part exists and is undamaged; print a line for a damaged one."""
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
