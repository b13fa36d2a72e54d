"""Builders of the training loop's tasks from objectives, data and optimizer settings.

Legend: M pictures · H,W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from accelerate import PartialState
from torch import Tensor, nn

from onetok.data.batches import Batch, ReadBatch, batches
from onetok.losses.adversarial import DiscriminatorLoss
from onetok.study.schema.tokenizers import Adversarial
from onetok.study.schema.training import AdamW, Schedule, TokenizerTraining, Training
from onetok.training.loop import Minimum, Phase, Task
from onetok.training.objectives import DiscriminatorObjective, PixelObjective, TokenizerObjective
from onetok.training.optimizers import build_optimizer
from onetok.training.schedules import LearningRate


def single_phase(
    model: nn.Module,
    objective: nn.Module,
    no_decay: tuple[str, ...],
    read: ReadBatch,
    length: int,
    training: Training,
    processes: PartialState,
    workers: int,
    draw: Callable[[nn.Module], Tensor] | None = None,
    picture_every: int | None = None,
) -> Task:
    """Return the task of minimising one objective with one optimizer over the `length` samples of `read`.

    Names that contain a string of `no_decay` have no weight decay. `draw` makes pictures (M, 3, H, W) uint8 of a model
    for the log.
    """
    optimizer = build_optimizer(objective, training.optimizer, no_decay)

    def batches_from(start: int) -> Iterator[Batch]:
        return batches(
            read,
            length=length,
            seed=training.seed,
            batch=training.batch,
            start=start,
            stop=training.steps,
            rank=processes.process_index,
            world=processes.num_processes,
            workers=workers,
        )

    rate = learning_rate(training.optimizer, training.schedule, training.steps)
    phase = Phase(name="train", module=objective, optimizer=optimizer, rate=rate, start=0)
    return Task(model=model, phases=[phase], batches=batches_from, draw=draw, picture_every=picture_every)


def tokenizer_task(
    objective: TokenizerObjective,
    no_decay: tuple[str, ...],
    read: ReadBatch,
    length: int,
    adversarial: Adversarial | None,
    training: TokenizerTraining,
    processes: PartialState,
    workers: int,
    draw: Callable[[nn.Module], Tensor],
) -> Task:
    """Return the task of training a tokenizer, with a second phase for its discriminator if `adversarial` is given."""
    task = single_phase(
        objective.model,
        objective,
        no_decay,
        read,
        length,
        training,
        processes,
        workers,
        draw=draw,
        picture_every=training.picture_every,
    )
    if training.codebook_floor is not None:
        usage, after = training.codebook_floor.usage, training.codebook_floor.after
        task = replace(task, minima=(Minimum(scalar="train/codebook_usage", value=usage, after=after),))
    if adversarial is not None:
        assert isinstance(objective, PixelObjective)
        phase = discriminator_phase(objective, adversarial)
        task = replace(task, phases=[*task.phases, phase])
    return task


def discriminator_phase(tokenizer: PixelObjective, settings: Adversarial) -> Phase:
    """Return the discriminator's phase of GAN training, whose learning-rate schedule begins at its start step."""
    assert tokenizer.adversarial is not None
    objective = DiscriminatorObjective(
        tokenizer.adversarial.discriminator,
        DiscriminatorLoss(settings.lecam.weight, settings.lecam.decay),
        tokenizer.reconstructions,
    )
    return Phase(
        name="discriminator",
        module=objective,
        optimizer=build_optimizer(objective, settings.optimizer, ()),
        rate=learning_rate(settings.optimizer, settings.schedule, settings.schedule.steps),
        start=settings.start,
    )


def learning_rate(optimizer: AdamW, schedule: Schedule, steps: int) -> LearningRate:
    """Return the learning-rate schedule of params over `steps` steps."""
    return LearningRate(
        kind=schedule.kind,
        base=optimizer.learning_rate,
        end=schedule.end,
        warmup=schedule.warmup,
        steps=steps,
    )
