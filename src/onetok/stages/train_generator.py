"""Trains a generator on a token cache, or downloads a released one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from onetok.data.batches import ReadBatch
from onetok.data.captions import CaptionTokenizer, report_truncated_captions
from onetok.data.texts import CaptionedTokens, TextCache
from onetok.data.tokens import TokenCache
from onetok.networks.caption_conditions import CachedCaptions, EncodedCaptions
from onetok.stages.common.fit import fit
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.generators import (
    ReleasedGenerator,
    TrainedCaptioner,
    TrainedCaptionGenerator,
    TrainedGenerator,
)
from onetok.study.shapes import text_shape
from onetok.systems.records import Condition
from onetok.systems.registry import generator_objective, generator_system, load_released_generator, shapes_of
from onetok.systems.saved import StudyArtefacts, save_model
from onetok.training.loop import Task
from onetok.training.objectives import TextPosteriors, labels_of
from onetok.training.tasks import single_phase


def train_generator(context: Context) -> None:
    """Write the generator's weights and config and, for a trained one, scalars.csv."""
    entry = context.study.generators[context.job.name]
    if isinstance(entry, TrainedGenerator):
        fit(context, partial(build_task, context, entry), entry.training)
    elif context.processes.is_main_process:
        assert isinstance(entry, ReleasedGenerator)
        save_model(load_released_generator(entry, shapes_of(context.study, entry)), context.folder)


def build_task(context: Context, entry: TrainedGenerator) -> tuple[Task, nn.Module]:
    """Return the training task of a generator, and its model."""
    cache = TokenCache(Path("results/tokens") / entry.tokens)
    read: ReadBatch = cache
    condition: Condition = labels_of
    if isinstance(entry, TrainedCaptionGenerator):
        read, condition = read_texts(context, entry, cache)
    made = StudyArtefacts(context.device)
    if isinstance(entry, TrainedCaptioner):
        condition = TextPosteriors(condition, made.text_tokenizer(entry.text_tokenizer))
    objective = generator_objective(context.study, entry, condition, made)
    task = single_phase(
        objective.model,
        objective,
        generator_system(objective.model).no_decay,
        read,
        len(cache),
        entry.training,
        context.processes,
        context.workers,
    )
    return task, objective.model


def read_texts(
    context: Context, entry: TrainedCaptionGenerator, cache: TokenCache
) -> tuple[CaptionedTokens, Condition]:
    """Return the reader of batches of tokens with captions, and the function from a batch to its text condition."""
    texts = TextCache(cache.directory / "captions")
    tokenize = CaptionTokenizer(text_shape(context.study, entry.text).length)
    read = CaptionedTokens(cache, texts, entry.captions.augmented, entry.training.seed, tokenize)
    if texts.encoded:  # the cache holds text states, so no text encoder is needed
        return read, CachedCaptions(texts.empty_states())
    report_truncated_captions(
        f"train_generator {context.job.name}", texts.captions(), tokenize.context_length
    )
    encoder = StudyArtefacts(context.device).text_encoder(entry.text)
    return read, EncodedCaptions(encoder, entry.text_layer)


if __name__ == "__main__":
    main("train_generator", train_generator)
