"""Arrays in .npy files that are whole or absent, written row by row where memory does not hold them.

A memory map is no way to write one: on a full disk the program dies of a signal, without a word.
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
    """Rows that go to a file one after the other."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.stream, self.shape, self.dtype, self.written = stream, shape, np.dtype(dtype), 0
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)

    def append(self, rows: NDArray[Any]) -> None:
        assert rows.shape[1:] == self.shape[1:], f"rows of shape {rows.shape[1:]}, expected {self.shape[1:]}"
        content = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1)
        self.stream.write(content.view(np.uint8).data)
        self.written += len(rows)


@contextmanager
def writing_rows(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[Rows]:
    """Yield what takes the rows of an array in order; the same array by numpy.save would be the same bytes."""
    with durable.writing(path) as stream:
        rows = Rows(stream, shape, dtype)
        yield rows
        assert rows.written == shape[0], f"{path}: {rows.written} rows, expected {shape[0]}"


def save_array(path: Path, array: NDArray[Any]) -> None:
    with writing_rows(path, array.shape, array.dtype) as rows:
        rows.append(array)
