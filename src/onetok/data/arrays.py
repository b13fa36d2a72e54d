"""Writing .npy files atomically, and row by row where the array does not fit into memory.

A file is complete or absent. It is not written through a memory map, because a full disk would then kill the process by
a signal (SIGBUS), without an error message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from onetok import durable


class Rows:
    """Writes the rows of an array to an open .npy file one after the other."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.stream, self.shape, self.dtype, self.written = stream, shape, np.dtype(dtype), 0
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows, (n, *shape[1:]), converted to the file's dtype."""
        assert rows.shape[1:] == self.shape[1:], f"rows of shape {rows.shape[1:]}, expected {self.shape[1:]}"
        content = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1)
        self.stream.write(content.view(np.uint8).data)
        self.written += len(rows)


@contextmanager
def writing_rows(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[Rows]:
    """Open `path` for an array of this shape and dtype, whose rows the body of the `with` appends in order.

    The bytes are those that numpy.save would write. Raises AssertionError if fewer or more rows were appended.
    """
    with durable.writing(path) as stream:
        rows = Rows(stream, shape, dtype)
        yield rows
        assert rows.written == shape[0], f"{path}: {rows.written} rows, expected {shape[0]}"


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to a .npy file that is complete or absent."""
    with writing_rows(path, array.shape, array.dtype) as rows:
        rows.append(array)
