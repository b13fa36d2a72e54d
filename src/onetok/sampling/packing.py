"""Linear layers made for few rows: on a CPU the weight is packed once, as oneDNN reads it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

LEAST_ROWS = 4  # oneDNN multiplies 4 rows faster than 2: its kernel then has enough sums in flight

Multiply = Callable[[Tensor], Tensor]

# Packed weights, each with the state of the weight that it was made of: for the next batch of images.
_PACKED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def multiplier(weight: Tensor, bias: Tensor) -> Multiply:
    """Return x → x · weight + bias for x (rows, in)."""
    if not packs(weight):
        return lambda x: F.linear(x, weight, bias)
    packed, multiply = _packed(weight), torch.ops.mkldnn._linear_pointwise
    return lambda x: multiply(x, packed, bias, "none", [], "")


def padding(rows: int, weight: Tensor) -> int:
    """Return how many rows to add to so few that the product is then faster."""
    return max(0, LEAST_ROWS - rows) if packs(weight) else 0


def packs(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _packed(weight: Tensor) -> Tensor:
    if weight.is_inference():  # it does not count its changes
        return _pack(weight)
    state = (weight.data_ptr(), weight._version)
    if weight not in _PACKED or _PACKED[weight][0] != state:
        _PACKED[weight] = (state, _pack(weight))
    packed: Tensor = _PACKED[weight][1]
    return packed


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed
