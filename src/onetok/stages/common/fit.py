"""Runs a training task in a stage: accelerate, experiment tracker, pictures, and the files that are exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, TorchDynamoPlugin
from torch import Tensor, nn

from onetok import durable
from onetok.errors import OnetokError
from onetok.report.contact_sheet import grid, save_picture
from onetok.stages.common.runtime import Context
from onetok.study.schema.training import Training
from onetok.systems.saved import save_model
from onetok.training.loop import History, Task, train

PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def fit(context: Context, build_task: Callable[[], tuple[Task, nn.Module]], training: Training) -> None:
    """Train the task of `build_task` and export weights, config, scalars and pictures into the job's folder.

    Raises OnetokError as `train` does, and for a precision that the device cannot compute in.
    """
    torch.manual_seed(training.seed)  # of the initialisation
    task, model = build_task()
    accelerator = _accelerator(context, training)
    model.to(accelerator.device)
    pictures = context.scratch / "pictures"

    def show(step: int, scalars: dict[str, float], images: Tensor | None) -> None:
        accelerator.log(scalars, step=step)
        if images is None or not accelerator.is_main_process:
            return
        pictures.mkdir(parents=True, exist_ok=True)
        sheet = grid(images.numpy(), columns=len(images) // 2)
        save_picture(sheet, pictures / f"step-{step:09d}.png")
        if context.tracker == "tensorboard":
            tracker = accelerator.get_tracker("tensorboard")
            tracker.log_images({"pictures": np.asarray(sheet)[None]}, step=step, dataformats="NHWC")
        elif context.tracker == "wandb":
            accelerator.get_tracker("wandb").log_images({"pictures": [sheet]}, step=step)

    label = f"{context.job.stage} {context.job.name}"
    exported, history = train(task, training, accelerator, context.scratch, label, show)
    # end_training() would also end the process group, which the stage still needs.
    for tracker in accelerator.trackers:
        tracker.finish()
    if accelerator.is_main_process:
        save_model(exported, context.folder)
        write_scalars(history, context.folder / "scalars.csv")
        if pictures.exists():
            # Copied, not moved, so that a run which is killed before it writes the receipt finds them again.
            (context.folder / "pictures").mkdir(exist_ok=True)
            for picture in sorted(pictures.glob("step-*.png")):
                durable.copy(picture, context.folder / "pictures" / picture.name)


def _accelerator(context: Context, training: Training) -> Accelerator:
    check_precision(context.job.name, training.precision, context.device)
    if context.tracker == "wandb":
        _require_wandb()
    accelerator = Accelerator(
        cpu=context.device.type == "cpu",
        mixed_precision=PRECISIONS[training.precision],
        gradient_accumulation_steps=1,  # the loop divides the loss itself
        dynamo_plugin=TorchDynamoPlugin(backend=DynamoBackend.NO),
        log_with=None if context.tracker == "none" else context.tracker,
        project_dir=str(context.logs),
    )
    accelerator.init_trackers(f"{context.job.stage}-{context.job.name}".replace("/", "-"))
    return accelerator


def check_precision(name: str, precision: str, device: torch.device) -> None:
    """Raise OnetokError for a precision that the device does not have.

    accelerate itself would silently compute in float32 for float16 on a CPU.
    """
    found = f"{name}: training.precision {precision}"
    if precision == "float16" and device.type == "cpu":
        raise OnetokError(f"{found}: a CPU trains in float32 or bfloat16; take one of these, or device: cuda")
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        gpu = torch.cuda.get_device_name(device)
        raise OnetokError(f"{found}: {gpu} has no bfloat16; take float16 or float32")


def _require_wandb() -> None:
    try:
        import wandb  # noqa: F401 (to see whether it is installed)
    except ImportError:
        raise OnetokError(
            "tracker: wandb is not installed; pip install wandb, or set tracker: tensorboard"
        ) from None


def write_scalars(history: History, path: Path) -> None:
    """Write a history as CSV, one row for each logging step, with columns in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in history.rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "step": int(row["step"])} for row in history.rows)
    durable.write_text(path, text.getvalue())
