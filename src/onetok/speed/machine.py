"""What the machine can do at most: the rate at which it reads memory, and the rate at which it multiplies matrices.

Both are measured where they are used, beside what they are compared with: on a shared machine they drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onetok.speed.clock import Clock
from onetok.speed.floor import Floor
from onetok.speed.products import MatrixProduct

READ_BYTES = 2**29  # of the matrix that is read, far more than a last-level cache holds
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square product
READS, PRODUCTS = 4, 2  # of one probe: both take a few tenths of a second on a CPU core


@dataclass(frozen=True, kw_only=True)
class Rates:
    bandwidth: float  # bytes/s
    flops_per_second: float


class Machine:
    """A large matrix to be read, and a large product; made once, in the type of the weights."""

    def __init__(self, clock: Clock, dtype: torch.dtype) -> None:
        self.clock = clock
        side = MATRIX_SIDE[clock.device.type]
        self.product = MatrixProduct(batch=1, rows=side, inner=side, columns=side, dtype=dtype)
        self.multiply = Floor(Counter({self.product: PRODUCTS}), clock)
        self.read = self._fastest_read(dtype)

    def probe(self) -> Rates:
        """Measure both rates once."""
        reading = self.clock.seconds(self.read, repetitions=READS)
        multiplying = sum(self.multiply.seconds().values())
        return Rates(
            bandwidth=READS * READ_BYTES / reading,
            flops_per_second=PRODUCTS * self.product.flops / multiplying,
        )

    def _fastest_read(self, dtype: torch.dtype) -> Callable[[], Tensor]:
        """Return the fastest of the ways to read all of a matrix once: a sum, and products with a vector."""
        columns = 8192
        matrix = torch.ones(READ_BYTES // dtype.itemsize // columns, columns, device=self.clock.device)
        matrix = matrix.to(dtype)
        right, left = matrix.new_ones(columns), matrix.new_ones(len(matrix))
        ways: list[Callable[[], Tensor]] = [
            lambda: matrix.sum(),
            lambda: torch.mv(matrix, right),
            lambda: torch.mv(matrix.mT, left),
        ]
        trials = [[self.clock.seconds(way) for way in ways] for _ in range(3)][1:]
        best = [min(times) for times in zip(*trials, strict=True)]
        return ways[best.index(min(best))]
