"""Trains a text tokenizer to rebuild the captions of a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from onetok.data.captions import report_truncated_captions
from onetok.data.shards import Shards
from onetok.data.texts import ShardCaptions
from onetok.networks.clip import CaptionStates
from onetok.stages.common.fit import fit
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.text_tokenizers import TextTokenizerEntry
from onetok.study.shapes import text_shape
from onetok.systems.registry import build_text_tokenizer, text_tokenizer_system
from onetok.systems.saved import StudyArtefacts
from onetok.training.loop import Task
from onetok.training.objectives import TextObjective
from onetok.training.tasks import single_phase


def train_text_tokenizer(context: Context) -> None:
    """Write the text tokenizer's weights and config, and scalars.csv."""
    entry = context.study.text_tokenizers[context.job.name]
    fit(context, partial(build_task, context, entry), entry.training)


def build_task(context: Context, entry: TextTokenizerEntry) -> tuple[Task, nn.Module]:
    """Return the training task of a text tokenizer, and its model."""
    shards = Shards(Path("results/datasets") / entry.dataset / "shards/train")
    shards.check_captions()
    states = CaptionStates(StudyArtefacts(context.device).text_encoder(entry.text))
    captions = (shards.caption(i) for i in range(len(shards)))
    report_truncated_captions(
        f"train_text_tokenizer {context.job.name}", captions, states.tokenize.context_length
    )
    read = ShardCaptions(shards, entry.captions.augmented, entry.training.seed, states.tokenize)
    model = build_text_tokenizer(entry, text_shape(context.study, entry.text), read.seen())
    task = single_phase(
        model,
        TextObjective(model, states, entry.loss),
        text_tokenizer_system(model).no_decay,
        read,
        len(shards),
        entry.training,
        context.processes,
        context.workers,
    )
    return task, model


if __name__ == "__main__":
    main("train_text_tokenizer", train_text_tokenizer)
