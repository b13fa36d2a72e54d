"""What a system says of itself: the one place from which the rest of the project learns of it.

A record names the entries of params that it builds, the model, what training minimises, how it is sampled, its released
layouts, and what its model card says. Stages, the public API, speed measurements and model cards ask the record;
nothing outside a system's folder asks which system it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from onetok.data.batches import Batch
from onetok.nn.protocols import Generator, TextTokenizer, Tokenizer
from onetok.nn.quantizers import Posterior
from onetok.nn.text_condition import TextCondition
from onetok.release.key_map import KeyMap
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import SamplingEntry
from onetok.study.schema.shapes import TextShape, TokenShape
from onetok.training.objectives import GeneratorObjective, TokenizerObjective
from onetok.training.tokenizer_losses import Artefacts, pixel_objective


class Release(NamedTuple):
    """A form in which weights were released."""

    keys: KeyMap
    config: Callable[[Mapping[str, Any]], Any]  # from the released configuration to the config of our model


class Paper(NamedTuple):
    title: str
    arxiv: str


class Shapes(NamedTuple):
    """What a generator has to fit."""

    tokens: TokenShape
    text: TextShape | None  # None for generators of classes


def discrete_shape(shapes: Shapes) -> dict[str, int]:
    """Return what the config of a generator of discrete tokens takes of their shape."""
    assert shapes.tokens.codebook_size is not None
    return {"codebook_size": shapes.tokens.codebook_size, "tokens": shapes.tokens.length}


Condition = Callable[
    [Batch], Any
]  # from a batch to the condition of its images: labels (b,) or encoded captions; their text tokens for captioners


@dataclass(frozen=True, kw_only=True)
class TokenizerSystem:
    kind: str  # of config.json
    model: type[Tokenizer]
    config: type[BaseModel]
    no_decay: tuple[str, ...]  # parts of the names of parameters that weight decay leaves out
    # By the type of an entry of params: from the entry and what the study has made to the model as training starts.
    builds: Mapping[type, Callable[[Any, Artefacts], Tokenizer]]
    objective: Callable[[Any, Any, Artefacts], TokenizerObjective] = pixel_objective
    releases: Mapping[str, Release] = field(default_factory=dict)  # by the name of the layout
    layout: Callable[[Any], str] | None = None  # of the file that an entry of released weights names
    # From an entry of released weights to `model` in the params of one that is fine-tuned; None where that cannot be.
    fine_tuned: Callable[[Any], dict[str, Any] | None] = lambda entry: None
    description: str  # for model cards
    papers: tuple[Paper, ...]


@dataclass(frozen=True, kw_only=True)
class GeneratorSystem:
    kind: str  # of config.json
    model: type[Generator]
    config: type[BaseModel]
    no_decay: tuple[str, ...]  # parts of the names of parameters that weight decay leaves out
    builds: Mapping[type, Callable[[Any, Shapes], Generator]]  # by the type of an entry of params
    objective: Callable[[Any, Any, Condition], GeneratorObjective]  # of an entry, a model and its conditions
    sampler: Callable[
        ..., Tensor
    ]  # (model, condition, settings, random, compiled=…) → ids (B, N) or latents (B, N, C)
    compiles: bool  # whether the sampler has a compiled form
    # The tensor whose rows are V codes, mask, K classes and the null class; None for generators of captions.
    class_table: str | None = None
    releases: Mapping[str, Release] = field(default_factory=dict)
    layout: Callable[[Any], str] | None = None
    # The modules whose call begins a step of sampling, the outermost first, and the bytes of weights that a step reads.
    step_bytes: Callable[[Any], dict[nn.Module, int]]

    @torch.inference_mode()
    def sample(
        self,
        model: Generator,
        condition: Tensor | TextCondition | Posterior,
        settings: SamplingEntry,
        random: ImageRandom,
        *,
        compiled: bool = False,
    ) -> Tensor:
        """Sample the tokens of B images: ids (B, N) int64 or latents (B, N, C) float32, each from its own generator.

        A captioner's condition is the posterior of the images' latents, and the result is text tokens (B, N, C).

        Raises ValueError for a model in training mode, whose dropout would change the images.
        """
        if model.training:
            raise ValueError("sampling is for evaluation: call eval() first, dropout would change the images")
        more = {"compiled": compiled} if self.compiles else {}
        tokens: Tensor = self.sampler(model, condition, settings, random, **more)
        return tokens


@dataclass(frozen=True, kw_only=True)
class TextTokenizerSystem:
    kind: str  # of config.json
    model: type[TextTokenizer]
    config: type[BaseModel]
    no_decay: tuple[str, ...]  # parts of the names of parameters that weight decay leaves out
    # By the type of an entry of params: from the entry, the shape of its text encoder's states and the token ids of the
    # training captions, in ascending order, to the model as training starts.
    builds: Mapping[type, Callable[[Any, TextShape, Sequence[int]], TextTokenizer]]
    releases: Mapping[str, Release] = field(default_factory=dict)
    layout: Callable[[Any], str] | None = None


System = TokenizerSystem | GeneratorSystem | TextTokenizerSystem
