"""Params that all text tokenizers share. Those of a system, with their checks, are in its folder (onetok.systems)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from pydantic import Field

from onetok.study.schema.base import DatasetName, EncoderName, Strict
from onetok.study.schema.generators import CaptionChoice
from onetok.study.schema.shapes import TextShape
from onetok.study.schema.training import Training


class TextTokenizerEntry(Strict):
    """A text tokenizer of params: captions ↔ tokens of the form of image tokens. It is trained to rebuild captions."""

    kind: str
    text: EncoderName = Field(description="the frozen text encoder, whose states become text tokens")
    dataset: DatasetName = Field(description="whose train split's captions it learns from")
    captions: CaptionChoice = Field(description="which captions it learns from")
    loss: Strict = Field(description="terms of the loss, which the system says")
    training: Training = Field(description="steps, batch, optimizer and seed")

    @property
    @abstractmethod
    def channels(self) -> int:
        """C, channels of a text token. There are as many tokens as text states."""

    def text_problems(self, text: TextShape) -> Iterator[str]:
        """Yield what is wrong with the shape of its text encoder's states, one line each."""
        yield from ()
