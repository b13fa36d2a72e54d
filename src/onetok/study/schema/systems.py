"""The entries of all systems (onetok.systems), as one type for each kind of artefact."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from onetok.study.schema.base import Strict
from onetok.study.schema.generators import GeneratorEntry
from onetok.study.schema.sampling import MaskedSampling, SamplingEntry
from onetok.study.schema.text_tokenizers import TextTokenizerEntry
from onetok.study.schema.tokenizers import TokenizerEntry
from onetok.systems import SYSTEMS


class Unreleased(Strict):
    """What is known of a model whose weights nobody released: enough to build it and to measure its speed."""

    kind: str

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with its values, one line each."""
        yield from ()


def _entries(name: str) -> list[type[Strict]]:
    """Return the entries that the systems add under a name of their schema modules."""
    return [entry for system in SYSTEMS for entry in getattr(import_module(f"{system}.schema"), name, ())]


def _by_kind(entries: list[type[Strict]]) -> Any:
    """Return the type of any of these entries, told apart by their `kind`."""
    union = reduce(or_, entries)
    return Annotated[union, Field(discriminator="kind")] if len(entries) > 1 else union


if TYPE_CHECKING:  # what a type checker may count on is what all entries have in common
    UnreleasedTokenizer = Unreleased
    UnreleasedGenerator = Unreleased
    Tokenizer = TokenizerEntry
    TextTokenizer = TextTokenizerEntry
    Generator = GeneratorEntry
    Sampling = SamplingEntry
else:
    UnreleasedTokenizer = _by_kind(_entries("UNRELEASED_TOKENIZERS"))
    UnreleasedGenerator = _by_kind(_entries("UNRELEASED_GENERATORS"))
    Tokenizer = _by_kind(_entries("TOKENIZERS"))
    TextTokenizer = _by_kind(_entries("TEXT_TOKENIZERS"))
    Generator = _by_kind(_entries("GENERATORS"))
    Sampling = _by_kind([MaskedSampling, *_entries("SAMPLINGS")])
