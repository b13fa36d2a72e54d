"""The resources of each job on a machine: `config` of a Snakemake profile, checked before any job starts.

This module does not import torch, because every start of Snakemake uses it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from onetok.errors import OnetokError, shown
from onetok.study.schema.base import Name, Strict


def _truth(value: Any) -> Any:
    """Return true and false as booleans, because Snakemake passes `config: [tf32=true]` of a profile as text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class Machine(Strict):
    """The `config` section of a profile."""

    device: Literal["cpu", "cuda"]
    tf32: Annotated[bool, BeforeValidator(_truth)]  # whether a GPU computes float32 in TensorFloat-32
    threads: Annotated[int, Field(gt=0, le=1024)]  # CPU threads of each job
    workers: Annotated[int, Field(ge=0, le=1024)]  # processes that read data, for each process of a job
    launch: Name  # command before the module of a training stage, such as `python -m`
    tracker: Literal["tensorboard", "wandb", "none"]


def read_machine(config: Mapping[str, Any]) -> Machine:
    """Return the machine that a profile describes.

    Raises OnetokError, with one line for each invalid value.
    """
    known = Machine.model_fields.keys()
    if config.keys() != known:
        unknown, absent = sorted(config.keys() - known), sorted(known - config.keys())
        raise OnetokError(
            f"profile: config holds unknown {unknown} and lacks {absent}, expected {sorted(known)}"
        )
    try:
        machine = Machine.model_validate(dict(config))
    except ValidationError as error:
        raise OnetokError("\n".join(_explain(dict(detail)) for detail in error.errors())) from None
    if machine.tf32 and machine.device == "cpu":
        raise OnetokError(
            "profile: config.tf32: found true on device cpu, expected false: only GPUs have TF32"
        )
    if machine.tracker == "wandb" and importlib.util.find_spec("wandb") is None:
        text = "wandb is not installed; pip install wandb, or set tracker: tensorboard"
        raise OnetokError(f"profile: config.tracker: {text}")
    return machine


def _explain(detail: dict[str, Any]) -> str:
    found, message = detail["input"], detail["msg"]
    what = f"found {shown(found)} ({type(found).__name__}); {message[0].lower()}{message[1:]}"
    return f"profile: config.{detail['loc'][0]}: {what}"


def has_gpu() -> bool:
    """Return False if there is certainly no GPU: no driver's device file, or all hidden by the environment."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or any((devices / name).exists() for name in ("kfd", "dxg"))
