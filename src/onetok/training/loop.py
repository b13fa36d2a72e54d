"""The training loop: steps, gradient accumulation, precision, EMA, logging and checkpoints, for any task.

A run is a function of its params. Every batch follows from (seed, step), and every step seeds the random generators
anew, so that a run which is killed and started again ends with the same bytes as an uninterrupted one.

Legend: M pictures · H,W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from onetok.data.batches import Batch
from onetok.errors import OnetokError
from onetok.progress import Progress
from onetok.study.schema.training import Training
from onetok.training.checkpoints import latest_checkpoint, load_newest, save_checkpoint
from onetok.training.ema import ExponentialMovingAverage
from onetok.training.schedules import LearningRate


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimizer's part of a training step. GAN training has two phases (tokenizer, discriminator), other one."""

    name: str  # prefix of its scalars in the history
    # forward(batch, step) → losses by name. "total" is minimised. A vector counts the uses of codebook entries.
    module: nn.Module
    optimizer: torch.optim.Optimizer
    rate: LearningRate  # its step 0 is `start`
    start: int  # first training step of this phase

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a training step."""
        return self.rate.at(step - self.start)


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """A lower bound of a logged scalar, below which training stops with an error."""

    scalar: str  # its name in the history
    value: float
    after: int  # number of steps after which the bound holds


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the loop trains."""

    model: nn.Module  # the model that is exported, and averaged by the EMA
    phases: list[Phase]
    batches: Callable[[int], Iterator[Batch]]  # first step → the batches of this step and the following ones
    draw: Callable[[nn.Module], Tensor] | None = None  # model → pictures (M, 3, H, W) uint8 for the log
    picture_every: int | None = None  # steps between pictures
    minima: tuple[Minimum, ...] = ()


@dataclass
class History:
    """The logged scalars, one row for each logging step: means over the steps since the last row.

    For a vector of counts of codebook entries it logs the share of entries above 0, the codebook's usage.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, Tensor]) -> None:
        """Add the values of one step to the row to come."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_row(self, step: int, rate: float, accelerator: Accelerator) -> dict[str, float]:
        """Append the means of the added values, over all processes, as the row of `step`, and return it."""
        row = {"step": float(step), "learning_rate": rate}
        for name, total in self.sums.items():
            mean = accelerator.reduce(total / self.counts[name], reduction="mean")
            row[name] = float((mean > 0).float().mean() if mean.ndim else mean)
        self.rows.append(row)
        self.sums, self.counts = {}, {}
        return row


def train(
    task: Task,
    training: Training,
    accelerator: Accelerator,
    scratch: Path,
    label: str,
    show: Callable[[int, dict[str, float], Tensor | None], None],
) -> tuple[nn.Module, History]:
    """Run the steps after the newest checkpoint in `scratch`; return the model to export and its history.

    The model is the EMA's average if params ask for an EMA, in evaluation mode. `label` names the run in progress and
    errors. `show` receives (step, scalars, pictures) for experiment trackers.

    Raises OnetokError if the batch cannot be divided by processes and accumulation, and if a scalar is not finite or
    falls below the task's lower bound for it.
    """
    parts = accelerator.num_processes * training.accumulation
    if training.batch % parts:
        text = f"{accelerator.num_processes} processes x accumulation {training.accumulation}"
        raise OnetokError(f"{label}: training.batch {training.batch} cannot be shared evenly by {text}")
    ema = ExponentialMovingAverage(task.model, training.ema_decay) if training.ema_decay is not None else None
    prepared = [accelerator.prepare(phase.module, phase.optimizer) for phase in task.phases]
    history = History()
    start = _resume(task, prepared, ema, history, scratch, accelerator)
    progress = Progress(label, training.steps, "steps", done=start)
    batches = task.batches(start)
    for step in range(start, training.steps):
        batch = Batch(*(tensor.to(accelerator.device) for tensor in next(batches)))
        # After the batch, because a data loader takes a number from the global generator when it starts.
        set_seed(_step_seed(training.seed, step, accelerator.process_index))
        values: dict[str, Tensor] = {}
        for phase, (module, optimizer) in zip(task.phases, prepared, strict=True):
            if step >= phase.start:
                values |= _update(phase, module, optimizer, batch, step, training, accelerator)
        if ema is not None:
            ema.update(task.model)
        history.add(values)

        done = step + 1
        note = ""
        if done % training.log_every == 0 or done == training.steps:
            row = history.close_row(done, task.phases[0].learning_rate(step), accelerator)
            _check(row, task.minima if done % training.log_every == 0 else (), scratch, label)
            note = f"loss {row[f'{task.phases[0].name}/total']:.4f}"
            show(done, row, None)
        if task.draw and task.picture_every and (done % task.picture_every == 0 or done == training.steps):
            show(done, {}, _draw(task, ema))
        if done % training.checkpoint_every == 0 and accelerator.is_main_process:
            save_checkpoint(scratch, done, _state(task, prepared, ema, history, accelerator))
        progress.advance(note=note)
    progress.close()
    exported = ema.average if ema is not None else task.model
    return exported.eval(), history


def _update(
    phase: Phase,
    module: nn.Module,
    optimizer: Any,
    batch: Batch,
    step: int,
    training: Training,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Take one step of a phase's optimizer; return its losses, averaged over accumulation, and its gradient norm."""
    for group in optimizer.param_groups:
        group["lr"] = phase.learning_rate(step)
    values: dict[str, Tensor] = {}
    for part in range(training.accumulation):
        chunk = Batch(*(tensor.chunk(training.accumulation)[part] for tensor in batch))
        last = part == training.accumulation - 1
        # The module that accelerate has prepared runs under autocast; objectives disable it for parts in float32.
        with nullcontext() if last else accelerator.no_sync(module):
            losses = module(chunk, step)
            accelerator.backward(losses["total"] / training.accumulation)
        for name, value in losses.items():
            key = f"{phase.name}/{name}"
            values[key] = values.get(key, torch.zeros_like(value)) + value.detach() / training.accumulation
    # A limit of infinity computes the norm without clipping.
    limit = math.inf if training.max_gradient_norm is None else training.max_gradient_norm
    norm = accelerator.clip_grad_norm_(module.parameters(), limit)
    optimizer.step()
    optimizer.zero_grad()
    if not optimizer.step_was_skipped:  # in float16 a step that overflows is skipped; its norm is not finite
        values[f"{phase.name}/gradient_norm"] = torch.as_tensor(norm)
    return values


def _draw(task: Task, ema: ExponentialMovingAverage | None) -> Tensor:
    """Draw the task's pictures in evaluation mode; in training mode a forward pass could move the codebook."""
    assert task.draw is not None
    if ema is not None:
        return task.draw(ema.average)
    task.model.eval()
    pictures = task.draw(task.model)
    task.model.train()
    return pictures


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, 2, step, rank]).generate_state(1)[0])


def _check(row: dict[str, float], minima: tuple[Minimum, ...], scratch: Path, label: str) -> None:
    """Raise OnetokError if a scalar of the row is not finite or below its lower bound."""
    bad = {name: value for name, value in row.items() if "/" in name and not math.isfinite(value)}
    problems = [(name, value, "a finite number") for name, value in bad.items()]
    for minimum in minima:
        if row["step"] > minimum.after and row[minimum.scalar] < minimum.value:
            problems.append((minimum.scalar, row[minimum.scalar], f"at least {minimum.value}"))
    if problems:
        name, value, expected = problems[0]
        good = latest_checkpoint(scratch)
        kept = f"last good checkpoint {good}" if good else "no checkpoint was written before"
        raise OnetokError(
            f"{label}: {name} is {value} at step {row['step']:.0f}, expected {expected}; {kept}"
        )


def _state(
    task: Task,
    prepared: list[Any],
    ema: ExponentialMovingAverage | None,
    history: History,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Return the state of a checkpoint."""
    return {
        "modules": [accelerator.unwrap_model(module).state_dict() for module, _ in prepared],
        "optimizers": [optimizer.state_dict() for _, optimizer in prepared],
        "ema": ema.state_dict() if ema is not None else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "history": {"rows": history.rows, "sums": history.sums, "counts": history.counts},
    }


def _resume(
    task: Task,
    prepared: list[Any],
    ema: ExponentialMovingAverage | None,
    history: History,
    scratch: Path,
    accelerator: Accelerator,
) -> int:
    """Load the newest undamaged checkpoint, if there is any; return the number of steps that are done."""
    found = load_newest(scratch, accelerator.device)
    if found is None:
        return 0
    path, state, problems = found
    for (module, optimizer), weights, moments in zip(
        prepared, state["modules"], state["optimizers"], strict=True
    ):
        accelerator.unwrap_model(module).load_state_dict(weights)
        optimizer.load_state_dict(moments)
    if ema is not None:
        ema.load_state_dict(state["ema"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    history.rows, history.sums = state["history"]["rows"], state["history"]["sums"]
    history.counts = state["history"]["counts"]
    step = state["step"]
    assert isinstance(step, int)
    for problem in problems:
        accelerator.print(f"{problem}; an older one is whole")
    accelerator.print(f"resuming after step {step} from {path}")
    return step
