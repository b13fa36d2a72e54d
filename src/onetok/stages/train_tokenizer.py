"""Train an image tokenizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from onetok.data.batches import AugmentedImages
from onetok.data.images import prepare
from onetok.data.shards import Shards
from onetok.registry import build_adversarial_term, build_reconstruction_loss, build_tokenizer
from onetok.stages.fit import fit
from onetok.stages.runtime import Context, main
from onetok.training.loop import Task
from onetok.training.tasks import TokenizerObjective, draw_reconstructions, tokenizer_task

PICTURES = 10  # validation images, spread over the split, that a sample picture shows


def train_tokenizer(context: Context) -> None:
    entry = context.study.tokenizers[context.job.name]
    shards = Path("results/datasets") / entry.dataset / "shards"
    train, val = Shards(shards / "train"), Shards(shards / "val")
    shown = np.linspace(0, len(val) - 1, PICTURES).astype(int)
    pixels = torch.from_numpy(np.stack([prepare(val.image(i), entry.images) for i in shown]))

    def build() -> tuple[Task, nn.Module]:
        model = build_tokenizer(entry)
        loss = build_reconstruction_loss(entry.losses, context.device)
        adversarial = entry.losses.adversarial
        term = build_adversarial_term(adversarial) if adversarial is not None else None
        task = tokenizer_task(
            TokenizerObjective(model, loss, term),
            AugmentedImages(train, entry.images, entry.training.seed, tokenize=None),
            len(train),
            entry.losses,
            entry.training,
            context.processes,
            context.workers,
            draw=partial(draw_reconstructions, pixels=pixels),
        )
        return task, model

    fit(context, build, entry.training)


if __name__ == "__main__":
    main("train_tokenizer", train_tokenizer)
