"""Checks that several kinds of entries share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onetok.study.schema.datasets import DigitsSource, EvaluationOnly, Images
from onetok.study.schema.study import Study
from onetok.study.schema.training import Schedule, Training


def check_training(training: Training) -> Iterator[str]:
    if training.steps > 0:  # with 0, the model stays as it is initialised
        yield from check_schedule("training.schedule", training.schedule, training.steps)
    if training.batch % training.accumulation:
        yield f"training.batch {training.batch} is not a multiple of accumulation {training.accumulation}"
    if training.checkpoint_every % training.log_every:
        # A row of scalars must not straddle a checkpoint of an interrupted run.
        text = f"training.checkpoint_every {training.checkpoint_every} is not a multiple of log_every"
        yield f"{text} {training.log_every}"


def check_chain(entries: Mapping[str, Any], entry: Any) -> Iterator[str]:
    """Check that what a training starts from does not, in the end, start from that training."""
    seen, start = [entry], entry.starts_from
    while start is not None and start.kind == "artefact":
        entry = entries[start.name]
        if any(entry is other for other in seen):
            yield f"starts from {start.name}, which leads back to it: expected a start from new weights or a file"
            return
        seen.append(entry)
        start = getattr(entry, "starts_from", None)


def check_schedule(where: str, schedule: Schedule, steps: int) -> Iterator[str]:
    if schedule.warmup >= steps:
        text = f"{where}.warmup {schedule.warmup} is not below the {steps} steps that it belongs to"
        yield f"{text}: the learning rate would never be reached"


def check_images(images: Images) -> Iterator[str]:
    if images.shorter_edge < images.size:
        yield f"images.shorter_edge {images.shorter_edge} is below images.size {images.size}"


def check_trained_on(study: Study, dataset: str) -> Iterator[str]:
    if isinstance(study.datasets[dataset].split, EvaluationOnly):
        yield f"dataset: {dataset} is for evaluation alone (its split), found a use of its train split"


def check_captions(study: Study, dataset: str) -> Iterator[str]:
    source = study.datasets[dataset].source
    if isinstance(source, DigitsSource) and source.caption is None:
        yield f"dataset: {dataset} has no captions (its source.caption is null)"
