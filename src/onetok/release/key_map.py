"""Renaming of released state dicts to ours. The map of each system is in systems/<name>/release.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from onetok.errors import OnetokError


class KeyMap(NamedTuple):
    """The rules that turn a released state dict into ours."""

    rename: tuple[tuple[str, str], ...]  # (regular expression, replacement), all applied in order
    merge: tuple[tuple[tuple[str, ...], str], ...]  # (suffixes to concatenate on dimension 0, new suffix)
    squeeze: tuple[str, ...]  # regular expressions of 1x1 convolutions that are linear layers in our models
    select: tuple[tuple[str, int | tuple[int, ...]], ...]  # (name, index): keep one row of a table
    unused: tuple[str, ...]  # regular expressions of released entries that are no parameters
    tied: tuple[tuple[str, str], ...] = ()  # (released entry, the equal entry to which it is tied): dropped


def rename(state: Mapping[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Return a released state dict in our layout. Entries that it lacks are missing in the result.

    Raises OnetokError where tied entries differ.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in _untied(state, key_map).items():
        if any(re.search(pattern, name) for pattern in key_map.unused):
            continue
        for pattern, replacement in key_map.rename:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor.flatten(1) if any(re.search(p, name) for p in key_map.squeeze) else tensor
    for suffixes, merged in key_map.merge:
        for first in [name for name in ours if name.endswith(suffixes[0])]:
            parts = [first.removesuffix(suffixes[0]) + suffix for suffix in suffixes]
            if all(part in ours for part in parts):
                ours[first.removesuffix(suffixes[0]) + merged] = torch.cat([ours.pop(p) for p in parts])
    for name, row in key_map.select:
        if name in ours:  # load_strictly reports missing entries
            ours[name] = ours[name][row]
    return ours


def _untied(state: Mapping[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Return the entries without those that are tied to another. Raises OnetokError where two tied ones differ."""
    for name, other in key_map.tied:
        if name in state and other in state and not _same(state[name], state[other]):
            raise OnetokError(f"tensor {name!r} differs from {other!r}, expected the same: they are tied")
    repeated = {name for name, _ in key_map.tied}
    return {name: tensor for name, tensor in state.items() if name not in repeated}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.is_meta or a.data_ptr() == b.data_ptr() or torch.equal(a, b))
