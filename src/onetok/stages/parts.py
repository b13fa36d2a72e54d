"""Long work cut into parts that any number of processes share, and that a restart does not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onetok.progress import track
from onetok.stages.runtime import Context

Arrays = dict[str, NDArray[Any]]


def work_in_parts(
    context: Context, parts: int, compute: Callable[[int], Arrays], label: str, unit: str
) -> Iterator[Arrays] | None:
    """Compute parts 0 … parts-1, each a function of its number alone.

    Process p of P takes every P-th part; parts that an interrupted run left in scratch are not computed again. The
    main process gets them back in order, the others None.
    """
    processes = context.processes
    mine = range(processes.process_index, parts, processes.num_processes)
    context.scratch.mkdir(parents=True, exist_ok=True)
    for part in track(mine, label, unit):
        path = context.scratch / f"part-{part:08d}.npz"
        if path.exists():
            continue
        temporary = path.with_suffix(".partial")
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **compute(part))
        temporary.replace(path)
    processes.wait_for_everyone()
    if not processes.is_main_process:
        return None
    return _read_parts(context, parts)


def _read_parts(context: Context, parts: int) -> Iterator[Arrays]:
    for part in range(parts):
        with np.load(context.scratch / f"part-{part:08d}.npz") as arrays:
            yield dict(arrays)
