import io

import numpy as np
import pytest

from onetok.data.arrays import save_array, writing_rows

ARRAYS = [
    np.arange(24, dtype=np.uint16).reshape(4, 3, 2),
    np.linspace(-1, 1, 12).astype(np.float16).reshape(3, 4),
    np.array([b"a", b"bcd"]),
    np.array([(b"k", 3, 2**40)], dtype=[("key", "S4"), ("label", "<i4"), ("offset", "<u8")]),
    np.zeros((0, 3), dtype=np.float32),
    np.arange(12).reshape(3, 4)[:, ::2],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype)[:10])
def test_arrays_have_the_bytes_that_numpy_gives_them(tmp_path, array):
    expected = io.BytesIO()
    np.save(expected, array)
    save_array(tmp_path / "whole.npy", array)
    with writing_rows(tmp_path / "rows.npy", array.shape, array.dtype) as rows:
        for start in range(0, len(array), 2):
            rows.append(array[start : start + 2])
    for path in tmp_path.iterdir():
        assert path.read_bytes() == expected.getvalue(), path.name


def test_an_array_that_ends_early_is_not_there(tmp_path):
    with (
        pytest.raises(AssertionError, match="2 rows, expected 3"),
        writing_rows(tmp_path / "a.npy", (3,), np.int32) as rows,
    ):
        rows.append(np.zeros(2))
    assert list(tmp_path.iterdir()) == []
