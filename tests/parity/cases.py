"""Reading golden cases: what the reference implementations gave on weights made from parameter names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from tests.parity.fill import fill_tensor

FOLDER = Path(__file__).parent


class Case(NamedTuple):
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def state(self, params: str = "params") -> dict[str, Tensor]:
        """Return the published state dict that the case was computed with."""
        filled = {k: torch.from_numpy(fill_tensor(k, shape)) for k, shape in self.meta[params].items()}
        for name, factor in self.meta.get("scaled_params", {}).items():
            filled[name] = filled[name] * factor
        return filled


def load_case(name: str) -> Case:
    with safe_open(FOLDER / "cases" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return Case(json.loads(file.metadata()["meta"]), tensors)


def relative_error(ours: Tensor, golden: Tensor) -> float:
    assert ours.shape == golden.shape, f"shape {tuple(ours.shape)}, golden {tuple(golden.shape)}"
    return float((ours.double() - golden.double()).norm() / golden.double().norm())
