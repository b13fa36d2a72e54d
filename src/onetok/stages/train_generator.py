"""Train a generator on a token cache, or fetch a published one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from onetok.data.batches import Batch, ReadBatch
from onetok.data.captions import CaptionTokenizer, say_cuts
from onetok.data.texts import CaptionedTokens, TextCache
from onetok.data.tokens import TokenCache
from onetok.derived import text_shape, token_shape
from onetok.models.mmdit import TextCondition
from onetok.models.text_conditions import CachedCaptions, EncodedCaptions
from onetok.params import TextGenerator, TrainedGenerator
from onetok.published import load_published_generator
from onetok.registry import build_generator_objective, load_encoder, save_model
from onetok.stages.fit import fit
from onetok.stages.runtime import Context, main
from onetok.training.loop import Task
from onetok.training.tasks import single_phase


def train_generator(context: Context) -> None:
    entry = context.study.generators[context.job.name]
    if isinstance(entry, TrainedGenerator):
        fit(context, partial(build_task, context, entry), entry.training)
    elif context.processes.is_main_process:
        shape = token_shape(context.study, context.study.tokenizers[entry.tokenizer])
        save_model(load_published_generator(entry, shape), context.folder)


def build_task(context: Context, entry: TrainedGenerator) -> tuple[Task, nn.Module]:
    cache = TokenCache(Path("results/tokens") / entry.tokens)
    read: ReadBatch = cache
    texts = None
    if isinstance(entry, TextGenerator):
        read, texts = read_texts(context, entry, cache)
    objective = build_generator_objective(context.study, entry, texts)
    task = single_phase(
        objective.model, objective, read, len(cache), entry.training, context.processes, context.workers
    )
    return task, objective.model


def read_texts(
    context: Context, entry: TextGenerator, cache: TokenCache
) -> tuple[CaptionedTokens, Callable[[Batch], TextCondition]]:
    """Return what reads tokens with their captions, and what a generator makes of these."""
    texts = TextCache(cache.directory / "captions")
    tokenize = CaptionTokenizer(text_shape(context.study, entry.text).length)
    read = CaptionedTokens(cache, texts, entry.captions.augmented, entry.training.seed, tokenize)
    if texts.encoded:  # no encoder is needed
        return read, CachedCaptions(texts.empty_states())
    say_cuts(f"train_generator {context.job.name}", texts.captions(), tokenize.context_length)
    return read, EncodedCaptions(load_encoder(entry.text, context.device))


if __name__ == "__main__":
    main("train_generator", train_generator)
