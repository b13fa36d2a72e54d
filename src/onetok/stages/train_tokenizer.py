"""Train an image tokenizer, or fetch a published one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from onetok.data.batches import AugmentedImages, caption_ids
from onetok.data.captions import say_cuts
from onetok.data.images import prepare
from onetok.data.shards import Shards
from onetok.params import PixelTokenizer, TrainedTokenizer
from onetok.published import load_published
from onetok.registry import build_tokenizer_objective, save_model
from onetok.stages.fit import fit
from onetok.stages.runtime import Context, main
from onetok.training.loop import Task
from onetok.training.tasks import draw_reconstructions, tokenizer_task

PICTURES = 10  # validation images, spread over the split, that a sample picture shows


def train_tokenizer(context: Context) -> None:
    entry = context.study.tokenizers[context.job.name]
    if isinstance(entry, TrainedTokenizer):
        fit(context, partial(build_task, context, entry), entry.training)
    elif context.processes.is_main_process:
        save_model(load_published(entry), context.folder)


def build_task(context: Context, entry: TrainedTokenizer) -> tuple[Task, nn.Module]:
    shards = Path("results/datasets") / entry.dataset / "shards"
    train, val = Shards(shards / "train"), Shards(shards / "val")
    objective = build_tokenizer_objective(entry, context.device)
    if objective.tokenize is not None:
        train.check_captions()
        val.check_captions()
        captions = (train.caption(i) for i in range(len(train)))
        say_cuts(f"train_tokenizer {context.job.name}", captions, objective.tokenize.context_length)
    shown = np.linspace(0, len(val) - 1, PICTURES).astype(int)
    pixels = torch.from_numpy(np.stack([prepare(val.image(i), entry.images) for i in shown]))
    task = tokenizer_task(
        objective,
        AugmentedImages(train, entry.images, entry.training.seed, objective.tokenize),
        len(train),
        entry.losses.adversarial if isinstance(entry, PixelTokenizer) else None,
        entry.training,
        context.processes,
        context.workers,
        draw=partial(
            draw_reconstructions,
            objective=objective,
            pixels=pixels,
            captions=caption_ids(val, shown, objective.tokenize),
        ),
    )
    return task, objective.model


if __name__ == "__main__":
    main("train_tokenizer", train_tokenizer)
