"""Sizes of weights in bytes: the memory traffic that the roofline of sampling counts."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layers of a module, itself included, at any depth."""
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def weight_bytes(layers: Iterable[nn.Module]) -> int:
    """Return the size of all parameters of the layers, in bytes."""
    return sum(p.nbytes for layer in layers for p in layer.parameters())
