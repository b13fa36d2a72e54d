"""A lower bound of a call's time: the time of its matrix products and convolutions alone, measured on this machine.

A matrix product is one `torch.mm` or `torch.bmm` of two tensors, a convolution one `conv2d`. Of two memory layouts of
the operands, the faster one counts: the second factor by rows or by columns (as the weight of a linear layer is), and
images with channels first or channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from onetok.speed.clock import Clock
from onetok.speed.products import Convolution, MatrixProduct, Product, Products

Run = Callable[[], Tensor]


class LowerBound:
    """Runs each distinct product of a call in its fastest layout, on random operands that are made once."""

    TRIALS = 3  # measurements of each layout, after one for warm-up

    def __init__(self, products: Products, clock: Clock) -> None:
        self.clock = clock
        self.counts = dict(products)
        self.runs = {product: self._fastest(product) for product in products}

    def _fastest(self, product: Product) -> Run:
        ways = list(ways_of(product, self.clock.device))
        trials = [[self.clock.seconds(way) for way in ways] for _ in range(1 + self.TRIALS)][1:]
        best = [min(times) for times in zip(*trials, strict=True)]
        return ways[best.index(min(best))]

    def seconds(self) -> dict[Product, float]:
        """Run every product as often as the call does; return the total seconds of each, over all its repetitions."""
        return {p: self.clock.seconds(self.runs[p], repetitions=n) for p, n in self.counts.items()}


def ways_of(product: Product, device: torch.device) -> Iterator[Run]:
    """Yield a function for each memory layout that computes the product on random operands."""
    if isinstance(product, MatrixProduct):
        return _matrix_ways(product, device)
    return _convolution_ways(product, device)


def _matrix_ways(product: MatrixProduct, device: torch.device) -> Iterator[Run]:
    a = _random((product.batch, product.rows, product.inner), product.dtype, device)
    by_rows = _random((product.batch, product.inner, product.columns), product.dtype, device)
    by_columns = by_rows.mT.contiguous().mT
    for b in (by_rows, by_columns):
        yield _product_of(a, b)


def _product_of(a: Tensor, b: Tensor) -> Run:
    if len(a) == 1:
        first, second = a[0], b[0]
        return lambda: torch.mm(first, second)
    return lambda: torch.bmm(a, b)


def _convolution_ways(product: Convolution, device: torch.device) -> Iterator[Run]:
    images = _random(product.images, product.dtype, device)
    weight = _random(product.weight, product.dtype, device)
    for layout in (torch.contiguous_format, torch.channels_last):
        yield _convolution_of(product, images.to(memory_format=layout), weight.to(memory_format=layout))


def _convolution_of(product: Convolution, images: Tensor, weight: Tensor) -> Run:
    settings = (product.stride, product.padding, product.dilation, product.groups)
    return lambda: F.conv2d(images, weight, None, *settings)


def _random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Small values, so that sums of many terms stay finite in every dtype.
    return torch.randn(shape, device=device).mul_(0.1).to(dtype)
