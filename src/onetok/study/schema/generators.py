"""Params that all generators share. Those of a system are in its folder (onetok.systems), and so are its checks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from onetok.study.schema.architecture import TransformerSize
from onetok.study.schema.base import (
    BelowOne,
    CodebookSize,
    EncoderName,
    Entries,
    Fraction,
    Positive,
    Strict,
    TokenizerName,
    TokensName,
    Width,
)
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.sampling import MaskSchedule
from onetok.study.schema.starts import FromGenerator, FromWeights, GeneratorStart
from onetok.study.schema.training import Training


class ClassModel(TransformerSize):
    """The transformer of a generator of classes."""

    hidden: Width = Field(description="channels between the two layers of a feed-forward")
    dropout: BelowOne = Field(description="of both branches of a block")
    attention_dropout: BelowOne = Field(description="of the attention's weights")
    class_dropout: BelowOne = Field(description="share of training samples that see the null class")


class ClassConfig(Strict):
    """What the config of a generator of classes adds to its settings in params."""

    codebook_size: CodebookSize = Field(description="V, values of a token id")
    tokens: Width = Field(description="N, tokens of an image")
    classes: Positive = Field(description="K")


class MaskedLoss(Strict):
    """Cross-entropy of the tokens that were masked."""

    mask_schedule: MaskSchedule = Field(
        description="from a uniform number to the share of tokens that is masked"
    )
    label_smoothing: BelowOne = Field(description="probability that the target gives to all ids alike")
    unmasked_weight: Fraction = Field(description="weight of tokens that were visible; masked ones weigh 1")


class GeneratorEntry(Strict):
    """A generator of params. A system's own entries say what of the following differs."""

    kind: str

    reads: ClassVar[Literal["classes", "captions"]]
    continuous: ClassVar[bool] = False  # whether its tokens are latents rather than entries of a codebook
    sampling_kind: ClassVar[str]  # of the params.sampling that its sampler takes

    @property
    def text_encoder(self) -> str | None:
        """The encoder of the captions that it reads; None for generators of classes."""
        return None

    @abstractmethod
    def tokenizer_name(self, study: Entries) -> str:
        """Return the tokenizer whose tokens it generates."""

    @property
    def starts_from(self) -> FromGenerator | FromWeights | None:
        """The weights that training starts from; None where it starts from new ones, or where there is no training."""
        return None

    def first_stage(self, study: Entries) -> GeneratorEntry:
        """Return the entry that has its model and loss: itself, or the one whose weights it starts from.

        Raises OnetokError where it starts from something that it cannot.
        """
        return self

    def problems(self, study: Entries) -> Iterator[str]:
        """Yield what is wrong with the values that only this system has, one line each."""
        yield from ()


class TrainedGenerator(GeneratorEntry):
    tokens: TokensName = Field(description="the token cache that it learns from")
    training: Training = Field(description="steps, batch, optimizer and seed")
    init_from: GeneratorStart | None = Field(
        default=None,  # left out, it is not in receipts either: those of older runs stay what they are
        exclude_if=lambda start: start is None,
        description="fine-tuning: the weights that training starts from, of a model of the same sizes but for the"
        " number of classes, whose embeddings are then new; null or left out: new weights",
    )

    @property
    def starts_from(self) -> FromGenerator | FromWeights | None:
        return self.init_from

    def tokenizer_name(self, study: Entries) -> str:
        name: str = study.tokens[self.tokens].tokenizer
        return name


class ReleasedGenerator(GeneratorEntry):
    """A generator whose weights its authors have released."""

    tokenizer: TokenizerName = Field(description="whose tokens it generates")
    weights: WeightsFile = Field(description="the released file")

    def tokenizer_name(self, study: Entries) -> str:
        return self.tokenizer


class ClassEntry(GeneratorEntry):
    reads = "classes"
    classes: Positive = Field(description="K, classes that it can be asked for")


class CaptionEntry(GeneratorEntry):
    reads = "captions"
    text: EncoderName = Field(description="the frozen text encoder of captions")

    @property
    def text_encoder(self) -> str:
        return self.text


class CaptionChoice(Strict):
    """Which captions a generator learns from."""

    augmented: Fraction = Field(
        description="share of samples that get the augmented caption, if there is one"
    )


class TrainedCaptionGenerator(CaptionEntry, TrainedGenerator):
    captions: CaptionChoice = Field(description="which captions it learns from")
