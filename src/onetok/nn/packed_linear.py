"""Linear layers on a few rows: on a CPU the weight is packed once into the layout that the kernel multiplies fastest.

Sampling calls the same layers hundreds of times with a handful of rows. Their time is that of loading the weights from
memory, so the layout of the weights decides it.

Legend: R rows of the input · I inputs · O outputs of a layer · Q panels, ⌈O / PANEL⌉.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

# oneDNN multiplies 4 rows in less time than 2: with fewer, its kernel waits for each sum before it adds to it again.
LEAST_ROWS = 4

LANES = 16  # float32 numbers in a 512-bit register
PANEL = 4 * LANES  # outputs whose sums one loop runs at the same time, so that no addition waits for another
# torch.compile's options for layers of `compiled_multiplier`: fuse a product and its sum into one instruction (FMA).
COMPILER_OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}

Multiply = Callable[[Tensor], Tensor]
Activation = Literal["none", "gelu"]
ACTIVATIONS: dict[Activation, Multiply] = {"none": lambda x: x, "gelu": F.gelu}

# Cache of packed weights, by weight and packing function, each with the version of the weight it was packed from.
_CACHE: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def multiplier(weight: Tensor, bias: Tensor, activation: Activation = "none") -> Multiply:
    """Return the function x → activation(x · weightᵀ + bias) for x (R, I), weight (O, I) and bias (O,).

    Where `packs` allows it, the function uses oneDNN's packed layout; elsewhere it is PyTorch's own linear layer.
    """
    return (_Packed if packs(weight) else _Plain)(weight, bias, activation)


def compiled_multiplier(weight: Tensor, bias: Tensor, activation: Activation = "none") -> Multiply:
    """Return the function that `multiplier` does, written in operations that torch.compile turns into fast loops."""
    return (_Streamed if packs(weight) else _Plain)(weight, bias, activation)


class PrecomputedModulation:
    """An adaptive norm's linear layer of the condition, computed for many conditions at once before they are needed.

    `parts` are its shifts, scales and gates; those whose indices are in `scales` are used as 1 + scale, and the 1 is
    already added here.
    """

    def __init__(self, modulation: nn.Linear, scales: tuple[int, ...]) -> None:
        width = modulation.in_features
        bias = modulation.bias.clone()  # (parts·D,)
        for scale in scales:
            bias.view(-1, width)[scale] += 1
        self.multiply = multiplier(modulation.weight, bias)
        self.table = modulation.weight.new_empty(0, len(bias) // width, width)  # (conditions, parts, D)

    def compute(self, conditions: Tensor) -> Tensor:
        """Return the parts (rows, parts, D) of conditions (rows, D), and keep them in `table`.

        The memory of `table` is reused while it suffices, so that a recorded CUDA graph finds it in the same place.
        """
        out = self.multiply(conditions).unflatten(1, (-1, conditions.shape[1]))  # (rows, parts, D)
        if len(self.table) < len(out):
            self.table = out
        else:
            self.table[: len(out)] = out
        return self.table[: len(out)]


class _Plain(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.weight, self.bias, self.activation = weight, bias, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(F.linear(x, self.weight, self.bias))  # (R, O)


class _Packed(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.packed, self.bias, self.activation = _cached(weight, _packed), bias, activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, self.activation, [], "none"
        )  # (R, O)
        return out


class _Streamed(nn.Module):
    """A linear layer written as sums over inputs, which the compiler turns into one loop over all weights.

    Each weight is loaded from memory once. For a few rows this takes about the time that the memory needs to deliver
    the weights; oneDNN's product takes about 1.5 times as long.
    """

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.panels, self.bias, self.activation = _cached(weight, _panels), bias, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        lanes = self.panels.split(LANES, dim=2)  # PANEL/LANES x (Q, I, LANES)
        sums = [torch.cat([(row[:, None] * lane).sum(dim=1) for lane in lanes], dim=1) for row in x]
        out = torch.stack([row.flatten()[: len(self.bias)] for row in sums])  # (R, O)
        out = self.activation(out + self.bias)  # (R, O)
        # Forces the compiler to store the activation; the next layer would otherwise compute it again for every panel.
        return out.as_strided(out.shape, out.stride())


def compiles(weight: Tensor, rows: int) -> bool:
    """Return whether torch.compile makes a layer on `rows` rows faster.

    On a CPU it does for up to LEAST_ROWS rows; with more, oneDNN's packed product is as fast without compiling.
    """
    return rows <= LEAST_ROWS or not packs(weight)


def padding(rows: int, weight: Tensor) -> int:
    """Return how many rows to append to an input of `rows` rows so that the packed product takes less time."""
    return max(0, LEAST_ROWS - rows) if packs(weight) else 0


def packs(weight: Tensor) -> bool:
    """Return whether the weight can be packed: float32, on a CPU, with oneDNN available and enabled."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _cached(weight: Tensor, pack: Multiply) -> Tensor:
    """Return pack(weight), computed again only where the weight has changed since."""
    if weight.is_inference():  # an inference tensor has no version that counts its changes
        return pack(weight)
    version, entries = (weight.data_ptr(), weight._version), _CACHE.setdefault(weight, {})
    if pack not in entries or entries[pack][0] != version:
        entries[pack] = (version, pack(weight))
    packed: Tensor = entries[pack][1]
    return packed


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


def _panels(weight: Tensor) -> Tensor:
    """Return weight (O, I) as (Q, I, PANEL): a panel holds the weights of PANEL outputs, the last one padded with 0."""
    padded = F.pad(weight.detach(), (0, 0, 0, -len(weight) % PANEL))  # (Q·PANEL, I)
    return padded.view(-1, PANEL, weight.shape[1]).transpose(1, 2).contiguous()  # (Q, I, PANEL)
