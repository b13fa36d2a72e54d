"""Long work cut into parts that any number of processes share, and that a restart does not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

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

    Process p of P takes every P-th part; parts that an interrupted run left in scratch are not computed again. The
    main process gets them back in order, the others None.
    """
    processes = context.processes
    mine = range(processes.process_index, parts, processes.num_processes)
    context.scratch.mkdir(parents=True, exist_ok=True)
    missing = [part for part in mine if not (context.scratch / f"part-{part:08d}.npz").exists()]
    loaded = track(read_ahead(load, missing, context.workers), label, unit, total=len(missing))
    for part, item in zip(missing, loaded, strict=True):
        path = context.scratch / f"part-{part:08d}.npz"
        temporary = path.with_suffix(".partial")
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **compute(part, item))
        temporary.replace(path)
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return None
    return _read_parts(context, parts)


def _read_parts(context: Context, parts: int) -> Iterator[Arrays]:
    for part in range(parts):
        with np.load(context.scratch / f"part-{part:08d}.npz") as arrays:
            yield dict(arrays)
