"""A linear layer on patches as a tokenizer, and a table of logits for every class and position as a generator."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from onetok.nn.protocols import Generator, Tokenizer
from onetok.nn.quantizers import Reconstruction, Tokens, VectorQuantizer

from .schema import PatchesConfig, TableConfig


class Patches(Tokenizer):
    def __init__(self, config: PatchesConfig) -> None:
        super().__init__()
        self.config = config
        values = 3 * config.patch**2
        self.encoder = nn.Linear(values, config.quantizer.channels)
        self.quantizer = VectorQuantizer(config.quantizer)
        self.decoder = nn.Linear(config.quantizer.channels, values)

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def tokens(self) -> int:
        return (self.config.image_size // self.config.patch) ** 2

    @property
    def channels(self) -> int:
        return self.config.quantizer.channels

    @property
    def codebook_size(self) -> int:
        return self.config.quantizer.codebook_size

    def encode(self, images: Tensor, text: Tensor | None = None) -> Tokens:
        return self.quantizer(self._features(images)).tokens

    def decode(self, tokens: Tokens, text: Tensor | None = None) -> Tensor:
        side = self.config.image_size // self.config.patch
        return rearrange(
            self.decoder(tokens.latents),
            "b (h w) (c p q) -> b c (h p) (w q)",
            h=side,
            p=self.config.patch,
            q=self.config.patch,
        )

    def tokens_from_ids(self, ids: Tensor) -> Tokens:
        return Tokens(self.quantizer.lookup(ids), ids)

    def forward(
        self, images: Tensor, text: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        tokens, losses = self.quantizer(self._features(images))
        return Reconstruction(self.decode(tokens), tokens, losses)

    def _features(self, images: Tensor) -> Tensor:
        patch = self.config.patch
        return self.encoder(rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch))


class Table(Generator):
    def __init__(self, config: TableConfig) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.Parameter(torch.zeros(config.classes, config.tokens, config.codebook_size))

    @property
    def tokens(self) -> int:
        return self.config.tokens

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def classes(self) -> int:
        return self.config.classes

    def forward(self, labels: Tensor) -> Tensor:
        return self.logits[labels]  # (B, N, V)
