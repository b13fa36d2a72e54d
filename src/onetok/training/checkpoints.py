"""Checkpoints of training: one file each, written atomically, of which the last two are kept.

A power cut, a full quota or a bad disk can still damage a file. Therefore a file is verified before it is loaded, and a
run resumes from the newest checkpoint that is not damaged.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch

from onetok import durable
from onetok.errors import OnetokError, one_line

KEPT = 2  # checkpoints that are kept


def save_checkpoint(directory: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint after `step` steps, delete older ones but for the last KEPT, return its path.

    Checkpoints of later steps are deleted too: they must be damaged, or this run would have resumed from them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    durable.remove_partial(directory)
    path = directory / f"step-{step:09d}.pt"
    with durable.writing(path) as stream:
        torch.save({"step": step, **state}, stream)
    found = _checkpoints(directory)
    here = found.index(path)
    for other in [*found[: max(0, here - KEPT + 1)], *found[here + 1 :]]:
        other.unlink()
    return path


def latest_checkpoint(directory: Path) -> Path | None:
    """Return the checkpoint of the last step, whether damaged or not; None without any."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Return the state of a checkpoint, its tensors on `device`.

    Raises OnetokError for a file that cannot be read or is damaged.
    """
    try:
        if (damage := durable.archive_damage(path)) is not None:
            raise OnetokError(f"{path}: damaged checkpoint: {damage}")
        state: dict[str, Any] = torch.load(path, map_location=device.type, weights_only=True)
    except pickle.UnpicklingError:
        raise OnetokError(f"{path}: damaged checkpoint: holds other things than training keeps") from None
    except durable.ARCHIVE_ERRORS as error:
        raise OnetokError(f"{path}: damaged checkpoint: {one_line(error)}") from None
    return state


def load_newest(directory: Path, device: torch.device) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Return the newest undamaged checkpoint, its state, and the errors of newer ones; None without any checkpoint.

    Raises OnetokError if there are checkpoints and all are damaged.
    """
    problems: list[str] = []
    for path in reversed(_checkpoints(directory)):
        try:
            return path, load_checkpoint(path, device), problems
        except OnetokError as error:
            problems.append(str(error))
    if problems:
        raise OnetokError(f"{'; '.join(problems)}; remove {directory} to train from the start")
    return None


def _checkpoints(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("step-*.pt") if re.fullmatch(r"step-\d{9}\.pt", p.name))
