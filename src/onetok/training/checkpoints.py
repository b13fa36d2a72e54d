"""Resumable state: one file a checkpoint, written whole or not at all, the last two kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

KEPT = 2


def save_checkpoint(directory: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint after `step` steps."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{step:09d}.pt"
    temporary = path.with_suffix(".partial")
    torch.save({"step": step, **state}, temporary)
    temporary.replace(path)
    for old in _checkpoints(directory)[:-KEPT]:
        old.unlink()
    return path


def latest_checkpoint(directory: Path) -> Path | None:
    found = _checkpoints(directory)
    return found[-1] if found else None


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("step-*.pt") if re.fullmatch(r"step-\d{9}\.pt", p.name))
