"""The peak rates of a machine: memory bandwidth and floating-point operations per second of matrix products.

Both are measured right before and after the calls that they are compared with, because on a shared machine they drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onetok.speed.clock import Clock
from onetok.speed.lower_bound import LowerBound
from onetok.speed.products import MatrixProduct

READ_BYTES = 2**29  # size of the matrix for the bandwidth, far more than a last-level cache holds
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices for the product
READS, PRODUCTS = 4, 2  # repetitions in one probe: each takes a few tenths of a second on a CPU core


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The peak rates of a machine."""

    bandwidth: float  # of loads from memory, in bytes/s
    flops_per_second: float  # of a large matrix product


class Machine:
    """Measures a machine's rates with a large matrix and a large product in the dtype of the weights."""

    def __init__(self, clock: Clock, dtype: torch.dtype) -> None:
        self.clock = clock
        side = MATRIX_SIDE[clock.device.type]
        self.product = MatrixProduct(batch=1, rows=side, inner=side, columns=side, dtype=dtype)
        self.multiply = LowerBound(Counter({self.product: PRODUCTS}), clock)
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
        """Return the fastest operation that loads a whole matrix once: a sum, or a product with a vector."""
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
