"""The training loop: steps, accumulation, precision, EMA, logging, checkpoints. Tasks say what is learned.

A run is a function of its params. Every batch follows from (seed, step), and every step starts from its own
random state, so a run that is killed anywhere and started again ends with the bytes of an uninterrupted one.
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
from onetok.params import Training
from onetok.progress import Progress
from onetok.training.checkpoints import latest_checkpoint, load_newest, save_checkpoint
from onetok.training.ema import ExponentialMovingAverage
from onetok.training.schedules import LearningRate


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimizer's part of a step. A GAN has two, everything else one."""

    name: str
    module: nn.Module  # forward(batch, step) → losses by name; "total" is minimised, vectors are counts
    optimizer: torch.optim.Optimizer
    rate: LearningRate  # counted from `start`
    start: int  # first step in which it takes part

    def learning_rate(self, step: int) -> float:
        return self.rate.at(step - self.start)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A scalar of the history that must not fall below a minimum once training is under way."""

    scalar: str
    minimum: float
    after: int  # steps


@dataclass(frozen=True, kw_only=True)
class Task:
    model: nn.Module  # what is exported, and averaged by the EMA
    phases: list[Phase]
    batches: Callable[[int], Iterator[Batch]]  # first step → batches from there on
    draw: Callable[[nn.Module], Tensor] | None = None  # model → pictures (M, 3, H, W) uint8
    picture_every: int | None = None
    floors: tuple[Floor, ...] = ()


@dataclass
class History:
    """Scalars by step: means over the steps since the last row; of vectors the share above 0."""

    rows: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close_row(self, step: int, rate: float, accelerator: Accelerator) -> dict[str, float]:
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

    `show` receives (step, scalars, pictures) for trackers. Raises OnetokError where a scalar is not finite or
    falls below the task's floor for it.
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
        # After the batch: a data loader that starts takes a number from the global generator.
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
            _check(row, task.floors if done % training.log_every == 0 else (), scratch, label)
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
    """Take one optimizer step; return its losses and gradient norm by name."""
    for group in optimizer.param_groups:
        group["lr"] = phase.learning_rate(step)
    values: dict[str, Tensor] = {}
    for part in range(training.accumulation):
        chunk = Batch(*(tensor.chunk(training.accumulation)[part] for tensor in batch))
        last = part == training.accumulation - 1
        # The module that accelerate has prepared computes under autocast; the objectives say what does not.
        with nullcontext() if last else accelerator.no_sync(module):
            losses = module(chunk, step)
            accelerator.backward(losses["total"] / training.accumulation)
        for name, value in losses.items():
            key = f"{phase.name}/{name}"
            values[key] = values.get(key, torch.zeros_like(value)) + value.detach() / training.accumulation
    limit = math.inf if training.max_gradient_norm is None else training.max_gradient_norm  # inf: norm alone
    norm = accelerator.clip_grad_norm_(module.parameters(), limit)
    optimizer.step()
    optimizer.zero_grad()
    if not optimizer.step_was_skipped:  # float16 skips a step that overflows, and its norm is not finite
        values[f"{phase.name}/gradient_norm"] = torch.as_tensor(norm)
    return values


def _draw(task: Task, ema: ExponentialMovingAverage | None) -> Tensor:
    """Draw pictures without a trace: in training mode a look at the model would move its codebook."""
    assert task.draw is not None
    if ema is not None:
        return task.draw(ema.average)
    task.model.eval()
    pictures = task.draw(task.model)
    task.model.train()
    return pictures


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, 2, step, rank]).generate_state(1)[0])


def _check(row: dict[str, float], floors: tuple[Floor, ...], scratch: Path, label: str) -> None:
    bad = {name: value for name, value in row.items() if "/" in name and not math.isfinite(value)}
    problems = [(name, value, "a finite number") for name, value in bad.items()]
    for floor in floors:
        if row["step"] > floor.after and row[floor.scalar] < floor.minimum:
            problems.append((floor.scalar, row[floor.scalar], f"at least {floor.minimum}"))
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
    """Load the newest whole checkpoint, if there is one; return the number of steps it has behind it."""
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
