"""The records of all systems (onetok.systems.SYSTEMS), and what follows for an entry, a model or a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetok.errors import OnetokError
from onetok.nn.protocols import Generator, TextTokenizer, Tokenizer
from onetok.release.download import fetch
from onetok.release.key_map import rename
from onetok.release.tensors import load_strictly, read_tensors
from onetok.study.schema.generators import GeneratorEntry, ReleasedGenerator, TrainedGenerator
from onetok.study.schema.shapes import RELEASED_TEXT, TextShape
from onetok.study.schema.starts import OURS, FromGenerator, FromTokenizer, FromWeights
from onetok.study.schema.study import Study
from onetok.study.schema.tokenizers import ReleasedTokenizer, TokenizerEntry, TrainedTokenizer
from onetok.study.shapes import text_shape
from onetok.systems import SYSTEMS
from onetok.systems.records import (
    Condition,
    GeneratorSystem,
    Release,
    Shapes,
    System,
    TextTokenizerSystem,
    TokenizerSystem,
)
from onetok.training.objectives import GeneratorObjective, TokenizerObjective
from onetok.training.tokenizer_losses import Artefacts

RECORDS: list[System] = [record for system in SYSTEMS for record in import_module(f"{system}.system").RECORDS]


def tokenizer_system(model: nn.Module | type) -> TokenizerSystem:
    """Return the record of a tokenizer, by its model or by the type of an entry of params."""
    found = system_of(model)
    assert isinstance(found, TokenizerSystem)
    return found


def generator_system(model: nn.Module | type) -> GeneratorSystem:
    """Return the record of a generator, by its model or by the type of an entry of params."""
    found = system_of(model)
    assert isinstance(found, GeneratorSystem)
    return found


def text_tokenizer_system(model: nn.Module | type) -> TextTokenizerSystem:
    """Return the record of a text tokenizer, by its model or by the type of an entry of params."""
    found = system_of(model)
    assert isinstance(found, TextTokenizerSystem)
    return found


def system_of(of: nn.Module | type) -> System:
    """Return the record of a model, by itself or by its type, or of an entry of params, by its type.

    Raises OnetokError for one of no system.
    """
    wanted = of if isinstance(of, type) else type(of)
    for record in RECORDS:
        if wanted is record.model or wanted in record.builds:
            return record
    known = ", ".join(record.model.__name__ for record in RECORDS)
    raise OnetokError(f"{wanted.__name__}: no system has it (onetok.systems.SYSTEMS), known: {known}")


# ---------------------------------------------------------------------------------------------- tokenizers


def build_tokenizer(entry: Any, made: Artefacts) -> Tokenizer:
    """Return the tokenizer of an entry of params, as training starts from it; of released weights without these.

    It reads the artefacts that the entry names, such as stage 1 of a second stage.
    """
    return tokenizer_system(type(entry)).builds[type(entry)](entry, made)


def tokenizer_objective(entry: TokenizerEntry, made: Artefacts) -> TokenizerObjective:
    """Return a tokenizer with what it is trained on."""
    model = build_tokenizer(entry, made)
    if isinstance(entry, TrainedTokenizer) and entry.init_from is not None:
        fill_from(model, entry.init_from, made)
    return tokenizer_system(type(entry)).objective(entry, model, made)


def load_released_tokenizer(entry: ReleasedTokenizer, made: Artefacts) -> Tokenizer:
    """Return a tokenizer with the weights that its authors have released, in evaluation mode.

    Raises OnetokError where the file is not pinned, cannot be had, or does not fit.
    """
    path = fetch(entry.weights)
    model = build_tokenizer(entry, made)
    _fill(model, entry, path)
    return model.eval()


def build_text_tokenizer(entry: Any, text: TextShape, seen: Sequence[int]) -> TextTokenizer:
    """Return the text tokenizer of an entry of params, as training starts from it.

    `text` is the shape of its text encoder's states, `seen` the token ids of the training captions in ascending order.
    """
    return text_tokenizer_system(type(entry)).builds[type(entry)](entry, text, seen)


# ---------------------------------------------------------------------------------------------- generators


def shapes_of(study: Study, entry: GeneratorEntry) -> Shapes:
    """Return what a generator of a study has to fit."""
    tokens = study.tokenizers[entry.tokenizer_name(study)].token_shape(study)
    if entry.text_encoder is None:
        return Shapes(tokens, None)
    # Of a released encoder the shape is known before its artefact is there.
    released = isinstance(entry, ReleasedGenerator)
    return Shapes(tokens, RELEASED_TEXT if released else text_shape(study, entry.text_encoder))


def build_generator(entry: Any, shapes: Shapes) -> Generator:
    """Return the generator of an entry that has a model of its own, with weights as they start."""
    return generator_system(type(entry)).builds[type(entry)](entry, shapes)


def generator_objective(
    study: Study, entry: TrainedGenerator, condition: Condition, made: Artefacts
) -> GeneratorObjective:
    """Return a generator, as training starts from it, with its loss; `condition` is what it reads of a batch."""
    first = entry.first_stage(study)
    model = build_generator(first, shapes_of(study, first))
    if entry.starts_from is not None:
        fill_from(model, entry.starts_from, made)
    return generator_system(type(first)).objective(first, model, condition)


def load_released_generator(entry: ReleasedGenerator, shapes: Shapes) -> Generator:
    """Return a generator with the weights that its authors have released, in evaluation mode.

    Raises OnetokError where the file is not pinned, cannot be had, or does not fit.
    """
    path = fetch(entry.weights)
    model = build_generator(entry, shapes)
    _fill(model, entry, path)
    return model.eval()


# ---------------------------------------------------------------------------------------------- fine-tuning


def fill_from(
    model: Tokenizer | Generator, start: FromTokenizer | FromGenerator | FromWeights, made: Artefacts
) -> None:
    """Give a new model the weights that its fine-tuning starts from.

    Raises OnetokError where the file is not pinned, cannot be had, or does not fit.
    """
    if isinstance(start, FromWeights):
        path = fetch(start.weights)
        state = read_tensors(path)
        if start.layout != OURS:
            state = rename_released(start.layout, state)
        source = str(path)
    else:
        # Random numbers of training are to be the same, whether or not another model was built for its weights.
        with torch.random.fork_rng(devices=[]):
            other = (made.tokenizer if isinstance(start, FromTokenizer) else made.generator)(start.name)
        state, source = other.state_dict(), start.name
    record = system_of(model)
    if (
        isinstance(record, GeneratorSystem)
        and isinstance(model, Generator)
        and record.class_table is not None
    ):
        state = with_own_classes(model, state, record.class_table)
    load_strictly(model, state, source)


def with_own_classes(model: Generator, state: Mapping[str, Tensor], table: str) -> dict[str, Tensor]:
    """Return a state dict in which, if it has another number of classes, the model's own rows of classes stand.

    Rows of `table` are V codes, the mask, K classes and the null class; all but the classes are kept.
    """
    ours, theirs = model.state_dict()[table], state.get(table)
    if theirs is None or theirs.shape == ours.shape or theirs.shape[1:] != ours.shape[1:]:
        return dict(state)
    assert model.codebook_size is not None
    codes = model.codebook_size + 1  # and the mask
    return {**state, table: torch.cat([theirs[:codes], ours[codes:-1], theirs[-1:]])}


# ---------------------------------------------------------------------------------------------- releases


def releases() -> dict[str, tuple[System, Release]]:
    """Return every released layout by its name, with the system whose weights have it."""
    return {name: (record, release) for record in RECORDS for name, release in record.releases.items()}


def release(layout: str) -> tuple[System, Release]:
    """Return a released layout. Raises OnetokError for a name that no system has."""
    known = releases()
    if layout not in known:
        raise OnetokError(f"no released layout {layout!r}, known: {', '.join(sorted(known))}")
    return known[layout]


def config_of_release(layout: str, config: Mapping[str, Any]) -> Any:
    """Return the config of ours that a released configuration stands for."""
    return release(layout)[1].config(config)


def model_of_release(layout: str, config: Mapping[str, Any]) -> nn.Module:
    """Return the model of a released configuration, its weights still to be loaded."""
    return release(layout)[0].model(config_of_release(layout, config))


def rename_released(layout: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a released state dict in our layout; what is missing in it is missing in ours."""
    return rename(state, release(layout)[1].keys)


def layout_of(entry: ReleasedTokenizer | ReleasedGenerator) -> str:
    """Return the name of the layout of the file that an entry names."""
    layout = system_of(type(entry)).layout
    assert layout is not None
    return layout(entry)


def _fill(model: nn.Module, entry: ReleasedTokenizer | ReleasedGenerator, path: Path) -> None:
    load_strictly(model, rename_released(layout_of(entry), read_tensors(path)), str(path))
