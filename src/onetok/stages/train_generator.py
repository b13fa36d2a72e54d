"""Train a generator on a token cache, or fetch a published one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from onetok.consistency import token_shape, tokenizer_of
from onetok.data.tokens import TokenCache
from onetok.params import TrainedGenerator
from onetok.published import load_published_generator
from onetok.registry import build_generator_objective, save_model
from onetok.stages.fit import fit
from onetok.stages.runtime import Context, main
from onetok.training.loop import Task
from onetok.training.tasks import single_phase


def train_generator(context: Context) -> None:
    entry = context.study.generators[context.job.name]
    tokens = token_shape(context.study, context.study.tokenizers[tokenizer_of(context.study, entry)])
    if isinstance(entry, TrainedGenerator):
        fit(context, partial(build_task, context, entry, tokens.codebook_size), entry.training)
    elif context.processes.is_main_process:
        save_model(load_published_generator(entry, *tokens), context.folder)


def build_task(context: Context, entry: TrainedGenerator, codebook_size: int) -> tuple[Task, nn.Module]:
    cache = TokenCache(Path("results/tokens") / entry.tokens)
    objective = build_generator_objective(entry, codebook_size, cache.length)
    task = single_phase(
        objective.model, objective, cache, len(cache), entry.training, context.processes, context.workers
    )
    return task, objective.model


if __name__ == "__main__":
    main("train_generator", train_generator)
