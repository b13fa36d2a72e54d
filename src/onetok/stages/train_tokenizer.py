"""Trains an image tokenizer, or downloads a released one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from onetok.data.batches import AugmentedImages, caption_ids
from onetok.data.captions import report_truncated_captions
from onetok.data.images import prepare
from onetok.data.shards import Shards
from onetok.stages.common.fit import fit
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.tokenizers import PixelTokenizer, ReleasedTokenizer, TrainedTokenizer
from onetok.systems.registry import load_released_tokenizer, tokenizer_objective, tokenizer_system
from onetok.systems.saved import StudyArtefacts, save_model
from onetok.training.loop import Task
from onetok.training.objectives import rebuild_pictures
from onetok.training.tasks import tokenizer_task

PICTURES = 10  # evenly chosen validation images in the pictures of the training log


def train_tokenizer(context: Context) -> None:
    """Write the tokenizer's weights and config and, for a trained one, scalars.csv and pictures/."""
    entry = context.study.tokenizers[context.job.name]
    if isinstance(entry, TrainedTokenizer):
        fit(context, partial(build_task, context, entry), entry.training)
    elif context.processes.is_main_process:
        assert isinstance(entry, ReleasedTokenizer)
        save_model(load_released_tokenizer(entry, StudyArtefacts(context.device)), context.folder)


def build_task(context: Context, entry: TrainedTokenizer) -> tuple[Task, nn.Module]:
    """Return the training task of a tokenizer, and its model."""
    shards = Path("results/datasets") / entry.dataset / "shards"
    train, val = Shards(shards / "train"), Shards(shards / "val")
    objective = tokenizer_objective(entry, StudyArtefacts(context.device))
    if objective.tokenize is not None:
        train.check_captions()
        val.check_captions()
        captions = (train.caption(i) for i in range(len(train)))
        report_truncated_captions(
            f"train_tokenizer {context.job.name}", captions, objective.tokenize.context_length
        )
    shown = np.linspace(0, len(val) - 1, PICTURES).astype(int)
    pixels = torch.from_numpy(np.stack([prepare(val.image(i), entry.images) for i in shown]))
    task = tokenizer_task(
        objective,
        tokenizer_system(objective.model).no_decay,
        AugmentedImages(train, entry.images, entry.training.seed, objective.tokenize),
        len(train),
        entry.losses.adversarial if isinstance(entry, PixelTokenizer) else None,
        entry.training,
        context.processes,
        context.workers,
        draw=partial(
            rebuild_pictures,
            objective=objective,
            pixels=pixels,
            captions=caption_ids(val, shown, objective.tokenize),
        ),
    )
    return task, objective.model


if __name__ == "__main__":
    main("train_tokenizer", train_tokenizer)
