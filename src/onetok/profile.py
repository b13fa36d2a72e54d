"""What a machine gives each job: `config` of a Snakemake profile, checked before any job starts.

Imports no torch: Snakemake asks at every start.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from onetok.errors import OnetokError, shown
from onetok.params import Name, Strict


def _truth(value: Any) -> Any:
    """Return what YAML means by true and false: Snakemake hands on `config: [tf32=true]` of a profile as text."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class Machine(Strict):
    device: Literal["cpu", "cuda"]
    tf32: Annotated[bool, BeforeValidator(_truth)]
    threads: Annotated[int, Field(gt=0, le=1024)]
    workers: Annotated[int, Field(ge=0, le=1024)]
    launch: Name
    tracker: Literal["tensorboard", "wandb", "none"]


def read_machine(config: Mapping[str, Any]) -> Machine:
    """Return the machine that a profile describes.

    Raises OnetokError with one line for each value that no job could use.
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
    """Return False where there is surely no GPU: no driver has made a device, or the environment hides all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or any((devices / name).exists() for name in ("kfd", "dxg"))
