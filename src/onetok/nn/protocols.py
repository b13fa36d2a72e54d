"""The interfaces that every tokenizer and every generator implements.

Legend: B batch · N tokens · C token channels · H,W pixels · T text states · S width of a text state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from onetok.nn.quantizers import Posterior, Reconstruction, Tokens


class TextWidths(NamedTuple):
    """The shapes of the text encoder's outputs that a model takes as input."""

    states: int  # S, width of each state of the sequence
    pooled: int | None  # width of the pooled state; None where the model does not use it
    length: int | None  # T, states of the sequence; None where the model takes any number


class Tokenizer(nn.Module, ABC):
    """Images (B, 3, H, W) float32 in [0, 1] ↔ N tokens, discrete ids or continuous latents."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """H = W, the side of its images in pixels."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """N, tokens of an image."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """C, channels of a token's latent vector."""

    @property
    @abstractmethod
    def codebook_size(self) -> int | None:
        """Number of codebook entries, so that ids are in [0, codebook_size); None where tokens are continuous."""

    @property
    def text_widths(self) -> TextWidths | None:
        """Shapes of the text states that the decoder takes; None where it takes no text."""
        return None

    @abstractmethod
    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        """Return the tokens of images (B, 3, H, W) float32 in [0, 1]."""

    @abstractmethod
    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        """Return images (B, 3, H, W) of tokens with latents (B, N, C), given text states (B, T, S) if it takes text.

        Values are near [0, 1]; only a tokenizer that says so clamps them.
        """

    @abstractmethod
    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        """Return the tokens, with their latents (B, N, C), of ids (B, N) int64 in [0, codebook_size).

        Fails with an AssertionError where tokens are continuous.
        """

    @abstractmethod
    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """Encode images (B, 3, H, W) float32 in [0, 1] and decode them again.

        In training, continuous tokens are sampled from their posteriors with `generator`.
        """


class TextTokenizer(nn.Module, ABC):
    """A text encoder's states of captions (B, N, S) → N text tokens of C channels → token ids of captions (B, N)."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """N, text tokens of a caption, and as many text states and token ids."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """C, channels of a text token."""

    @abstractmethod
    def encode(self, states: Tensor) -> Posterior:
        """Return the posterior of the text tokens (B, N, C) of text states (B, N, S)."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Return the token ids (B, N) int64 of captions, given their text tokens (B, N, C)."""

    @abstractmethod
    def loss(self, states: Tensor, ids: Tensor, settings: Any) -> dict[str, Tensor]:
        """Return the training loss `total` and its terms, scalars, for the states and ids (B, N) of captions."""


class Generator(nn.Module, ABC):
    """A condition of B images, class labels or captions → tokens. Each system has its own sampler (onetok.systems)."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """N, tokens of an image."""

    @property
    @abstractmethod
    def codebook_size(self) -> int | None:
        """Number of codebook entries, so that ids are in [0, codebook_size); None where tokens are continuous."""

    @property
    def classes(self) -> int | None:
        """Number of classes that it is conditioned on; None for text-conditional generators."""
        return None

    @property
    def text_widths(self) -> TextWidths | None:
        """Shapes of the text states that it is conditioned on; None for class-conditional generators."""
        return None


class LatentGenerator(Generator):
    """Generator of continuous tokens: the TextCondition of B captions → latents (B, N, C) of images, or the reverse."""

    @property
    def codebook_size(self) -> None:
        return None

    @abstractmethod
    def loss(self, latents: Tensor, condition: Any, settings: Any) -> dict[str, Tensor]:
        """Return the training loss `total` and its terms, scalars, for latents (B, N, C) as the tokenizer makes them.

        `condition` is the TextCondition of the captions; for a generator of captions, the posterior of their text
        tokens. `settings` are the entry `loss` of the generator's params.
        """


def tokens_from_sampled(tokenizer: Tokenizer, sampled: Tensor) -> Tokens:
    """Return the tokenizer's tokens of what a generator has sampled: ids (B, N) int64, or latents (B, N, C) float32."""
    return Tokens(sampled, None) if sampled.is_floating_point() else tokenizer.tokens_from_ids(sampled)
