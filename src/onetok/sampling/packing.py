"""Linear layers made for few rows: on a CPU the weight is packed once, as oneDNN reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

LEAST_ROWS = 4  # oneDNN multiplies 4 rows faster than 2: its kernel then has enough sums in flight

LANES = 16  # of a register of 512 bits
PANEL = 4 * LANES  # outputs whose sums are in flight at once
# For layers with such products: a product and its sum in one instruction.
COMPILER_OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}

Multiply = Callable[[Tensor], Tensor]
Activation = Literal["none", "gelu"]
ACTIVATIONS: dict[Activation, Multiply] = {"none": lambda x: x, "gelu": F.gelu}

# What was made of weights and how, each with the state of its weight then: for the next batch of images.
_KEPT: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def multiplier(weight: Tensor, bias: Tensor, activation: Activation = "none") -> Multiply:
    """Return x → activation(x · weight + bias) for x (rows, in)."""
    return (_Packed if packs(weight) else _Plain)(weight, bias, activation)


def compiled_multiplier(weight: Tensor, bias: Tensor, activation: Activation = "none") -> Multiply:
    """Return the same in a form that torch.compile makes fast."""
    return (_Streamed if packs(weight) else _Plain)(weight, bias, activation)


class _Plain(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.weight, self.bias, self.activation = weight, bias, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(x, self.weight, self.bias))


class _Packed(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.packed, self.bias, self.activation = _kept(weight, _packed), bias, activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, self.activation, [], "none"
        )
        return out


class _Streamed(nn.Module):
    """Written as sums over inputs, which the compiler puts into one loop that reads every weight once.

    For a few rows that is about as fast as memory is read, where oneDNN's products take half as long again.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.panels, self.bias, self.activation = _kept(weight, _panels), bias, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        lanes = self.panels.split(LANES, dim=2)  # (panels, in, LANES) each
        sums = [torch.cat([(row[:, None] * lane).sum(dim=1) for lane in lanes], dim=1) for row in x]
        out = torch.stack([row.flatten()[: len(self.bias)] for row in sums])  # (rows, out)
        out = self.activation(out + self.bias)
        # Forces the compiler to store it: what reads it would else compute the activation anew for every panel.
        return out.as_strided(out.shape, out.stride())


def compiles(weight: Tensor, rows: int) -> bool:
    """Return whether torch.compile makes layers of so many rows faster: on a CPU, oneDNN is as fast with more."""
    return rows <= LEAST_ROWS or not packs(weight)


def padding(rows: int, weight: Tensor) -> int:
    """Return how many rows to add to so few that the product is then faster."""
    return max(0, LEAST_ROWS - rows) if packs(weight) else 0


def packs(weight: Tensor) -> bool:
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _kept(weight: Tensor, make: Multiply) -> Tensor:
    """Return make(weight), made anew only where the weight has changed."""
    if weight.is_inference():  # it does not count its changes
        return make(weight)
    state, kept = (weight.data_ptr(), weight._version), _KEPT.setdefault(weight, {})
    if make not in kept or kept[make][0] != state:
        kept[make] = (state, make(weight))
    made: Tensor = kept[make][1]
    return made


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


def _panels(weight: Tensor) -> Tensor:
    """Return weight (out, in) as (panels, in, PANEL), padded with zeros: a panel holds the weights of PANEL outputs."""
    padded = F.pad(weight.detach(), (0, 0, 0, -len(weight) % PANEL))
    return padded.view(-1, PANEL, weight.shape[1]).transpose(1, 2).contiguous()
