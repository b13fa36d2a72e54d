"""Params that all generators share. Those of a system are in its folder (onetok.systems), and so are its checks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, get_args

from pydantic import Field

from onetok.errors import OnetokError
from onetok.study.schema.architecture import TransformerSize
from onetok.study.schema.base import (
    BelowOne,
    CodebookSize,
    EncoderName,
    Entries,
    Fraction,
    GeneratorName,
    Positive,
    PositiveFloat,
    Strict,
    TextTokenizerName,
    TokenizerName,
    TokensName,
    Width,
)
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.sampling import MaskSchedule
from onetok.study.schema.shapes import TextLayer, TextShape
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


class Latents(Strict):
    """How latents enter the network."""

    scale: PositiveFloat = Field(description="factor on the latents, to a variance near 1")


class GeneratorEntry(Strict):
    """A generator of params. A system's own entries say what of the following differs."""

    kind: str

    reads: ClassVar[Literal["classes", "captions", "images"]]
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
    """A text-to-image generator. A system says which states of the text encoder it takes."""

    reads: ClassVar[Literal["classes", "captions", "images"]] = "captions"
    text_layer: ClassVar[TextLayer]  # the states of the text encoder that it takes
    reads_aesthetic: ClassVar[bool]  # whether it is also conditioned on the image's aesthetic score
    text: EncoderName = Field(description="the frozen text encoder of captions")

    @property
    def text_encoder(self) -> str:
        return self.text

    def text_problems(self, text: TextShape, tokens: int) -> Iterator[str]:
        """Yield what is wrong with the shape of its text encoder's states, one line each; an image has `tokens`."""
        yield from ()


class CaptionChoice(Strict):
    """Which captions a generator learns from."""

    augmented: Fraction = Field(
        description="share of samples that get the augmented caption, if there is one"
    )


class TrainedCaptionGenerator(CaptionEntry, TrainedGenerator):
    captions: CaptionChoice = Field(description="which captions it learns from")


class TrainedCaptioner(TrainedCaptionGenerator):
    """Image to text: it learns from the same pairs as text to image, and gives captions of images."""

    reads = "images"
    text_tokenizer: TextTokenizerName = Field(
        description="what turns the captions into text tokens, and the text tokens that are generated into captions"
    )

    def problems(self, study: Entries) -> Iterator[str]:
        yield from super().problems(study)
        found = study.text_tokenizers[self.text_tokenizer]
        if found.text != self.text:
            yield f"text: {self.text}, but {self.text_tokenizer} reads the states of {found.text}"
        channels = study.tokenizers[self.tokenizer_name(study)].token_shape(study).channels
        if found.channels != channels:
            text = (
                f"{self.text_tokenizer} has tokens of {found.channels} channels, image tokens have {channels}"
            )
            yield f"text_tokenizer: {text}; a flow needs as many"


class FineTunedCaptionGenerator(TrainedCaptionGenerator):
    """A second stage: the model and the loss are those of a first one, whose weights training starts from."""

    pretrained: GeneratorName = Field(description="the first stage")

    first_types: ClassVar[
        tuple[type[TrainedCaptionGenerator], ...]
    ]  # the entries that can be its first stage

    @property
    def starts_from(self) -> FromGenerator:
        return FromGenerator(kind="artefact", name=self.pretrained)

    def first_stage(self, study: Entries) -> TrainedCaptionGenerator:
        found = study.generators[self.pretrained]
        if not isinstance(found, self.first_types):
            expected = " or ".join(
                get_args(entry.model_fields["kind"].annotation)[0] for entry in self.first_types
            )
            raise OnetokError(f"pretrained: {self.pretrained} is of kind {found.kind}, expected {expected}")
        return found

    def problems(self, study: Entries) -> Iterator[str]:
        yield from super().problems(study)
        if self.init_from is not None:
            yield f"init_from: {self.kind} starts from {self.pretrained} (pretrained), expected none"
        first = self.first_stage(study)
        found, expected = self.tokenizer_name(study), first.tokenizer_name(study)
        if found != expected:
            yield f"tokens: of {found}, but {self.pretrained} was trained on tokens of {expected}"
        if self.text != first.text:
            yield f"text: {self.text}, but {self.pretrained} reads {first.text}"
