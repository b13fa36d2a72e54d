"""Records the products of a call: every matrix product and every convolution, with shapes, dtype and count.

The time of the products is a lower bound of the call's time, since a fast implementation can overlap norms,
activations, softmax and copies with them. Biases are not counted. Attention counts as two batched matrix products.

Legend: G products in a batch · M rows · K inner size · N columns · B batch · C channels · H,W pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixProduct:
    """A batched matrix product: (G, M, K) times (G, K, N)."""

    batch: int  # G
    rows: int  # M
    inner: int  # K
    columns: int  # N
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Return its floating-point operations: a multiplication and an addition for each term."""
        return 2 * self.batch * self.rows * self.inner * self.columns


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """A 2D convolution."""

    images: tuple[int, ...]  # (B, C, H, W)
    weight: tuple[int, ...]  # (C out, C in of a group, kernel height, kernel width)
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    outputs: tuple[int, ...]  # (B, C out, H', W')
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Return its floating-point operations: a multiplication and an addition for each term."""
        return 2 * math.prod(self.outputs) * math.prod(self.weight[1:])


Product = MatrixProduct | Convolution
Products = Counter[Product]


@torch.no_grad()
def record_products(call: Callable[[], object]) -> Products:
    """Run `call`, which must not be compiled, once and return its products with their counts.

    Raises NotImplementedError for an operator that computes products and that this module does not know, so that none
    is missing.
    """
    recorder = _Recorder()
    with recorder:
        call()
    return recorder.found


class Part(NamedTuple):
    """A part of a call."""

    start: nn.Module | None  # the module whose call began it; None for what comes before the first of these
    products: Products


@torch.no_grad()
def record_parts(call: Callable[[], object], starts: Iterable[nn.Module]) -> list[Part]:
    """Run `call` once and return its products in parts; each call of one of the modules `starts` begins a new part.

    Raises NotImplementedError as record_products does.
    """
    recorder = _Recorder()
    parts = [Part(None, recorder.found)]

    def begin(module: nn.Module, _: object) -> None:
        recorder.found = Counter()
        parts.append(Part(module, recorder.found))

    hooks = [start.register_forward_pre_hook(begin) for start in starts]
    try:
        with recorder:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return parts


def total_flops(products: Products) -> int:
    """Return the floating-point operations of all products."""
    return sum(product.flops * count for product, count in products.items())


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Products = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.ops.prim.device.default:
            with self:  # in inference mode composite operators, such as linear, arrive undecomposed
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in MATRIX:
            first = MATRIX[packet]
            self.found[_matrix_product(args[first], args[first + 1])] += 1
        elif packet in ATTENTION:
            self.found.update(_attention(*args[:3]))
        elif packet is aten.convolution:
            self.found[_convolution(args, out)] += 1
        elif packet in flop_registry or any(name in packet.__name__ for name in UNLISTED):
            raise NotImplementedError(f"{packet}: a product that onetok.speed.products does not know")
        return out


# Operator → index of the first factor among its arguments.
MATRIX = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1}
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention,
}

# Names of operators that compute products but are missing from torch's registry: CPU attention, and packed weights.
UNLISTED = ("attention", "linear_pointwise")


def _matrix_product(a: Tensor, b: Tensor) -> MatrixProduct:
    batch = a.shape[0] if a.ndim == 3 else 1
    rows, inner = a.shape[-2:]
    return MatrixProduct(batch=batch, rows=rows, inner=inner, columns=b.shape[-1], dtype=a.dtype)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Iterator[MatrixProduct]:
    """Yield scores = query · keyᵀ, then weights · value, for (B, H, L, D) tensors."""
    batch = query.shape[0] * query.shape[1]
    rows, keys = query.shape[2], key.shape[2]
    sizes = ((query.shape[3], keys), (keys, value.shape[3]))
    for inner, columns in sizes:
        yield MatrixProduct(batch=batch, rows=rows, inner=inner, columns=columns, dtype=query.dtype)


def _convolution(args: tuple[Any, ...], out: Tensor) -> Convolution:
    images, weight, _, stride, padding, dilation, transposed, _, groups = args
    if transposed:
        raise NotImplementedError("a transposed convolution: onetok.speed.products does not know it")
    return Convolution(
        images=tuple(images.shape),
        weight=tuple(weight.shape),
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        outputs=tuple(out.shape),
        dtype=images.dtype,
    )
