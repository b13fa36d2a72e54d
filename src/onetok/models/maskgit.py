"""MaskGIT: class-conditional generation of token sequences (arXiv 2202.04200; TiTok, arXiv 2406.07550).

A bidirectional transformer reads [class, tokens] with some tokens masked and predicts all of them. Sampling starts from
masks alone and keeps the most confident predictions of each step. What every masked generator shares comes first, then
what those of classes do, then the ViT, a BERT; the U-ViT and MaskGen, which reads text, have pages of their own.

    token ids   0 … V-1      image codes
                V            mask
                V+1 … V+K    classes
                V+1+K        "no class", for guidance

Legend: B batch · N tokens · V codebook entries · K classes · D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from onetok.losses.masked import MaskedLoss, masked_token_loss
from onetok.models.layers import Attention, FeedForward
from onetok.sampling.masked import MaskedSampling, sample_masked
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskGITConfig:
    codebook_size: int  # V
    tokens: int  # N
    classes: int  # K
    width: int  # D
    layers: int
    heads: int
    hidden: int  # of the feed-forward
    dropout: float
    attention_dropout: float
    class_dropout: float  # share of training samples that see "no class"
    init_std: float

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")

    @property
    def mask_id(self) -> int:
        return self.codebook_size

    @property
    def vocabulary(self) -> int:
        return self.codebook_size + self.classes + 2


class MaskedGenerator(nn.Module, ABC):
    """Generator: a condition of B images → token ids (B, N). A system adds its layers and what its condition is."""

    def __init__(self, *, tokens: int, mask_id: int, dropout: float) -> None:
        super().__init__()
        self.tokens = tokens  # N
        self.mask_id = mask_id
        self.compiled = False  # whether sample() compiles `forward`
        self.condition_dropout = dropout  # share of training samples that see no condition

    @abstractmethod
    def drop(self, condition: Any, rows: Tensor) -> Any:
        """Return the condition without what it says of rows (B,) bool."""

    @abstractmethod
    def with_unconditional(self, condition: Any) -> Any:
        """Return the condition of 2B images: these, then the same without a condition."""

    def read(self, condition: Any) -> Any:
        """Return what `forward` takes of a condition."""
        return condition

    @abstractmethod
    def forward(self, ids: Tensor, reading: Any) -> Tensor:
        """Return logits (B, N, V) of ids (B, N) under what was read of a condition."""

    def loss(
        self, ids: Tensor, condition: Any, schedule: MaskSchedule, settings: MaskedLoss
    ) -> dict[str, Tensor]:
        """Mask ids (B, N), drop some conditions of B, and score the prediction of every token."""
        count = schedule.masked_count(torch.rand(len(ids), device=ids.device), self.tokens)  # (B,)
        rank = torch.rand(ids.shape, device=ids.device).argsort(dim=1).argsort(dim=1)  # (B, N)
        masked = rank < count[:, None]
        dropped = torch.rand(len(ids), device=ids.device) < self.condition_dropout
        reading = self.read(self.drop(condition, dropped))
        logits = self(torch.where(masked, self.mask_id, ids), reading)
        return masked_token_loss(logits, ids, masked, settings)

    @torch.inference_mode()
    def sample(self, condition: Any, sampling: MaskedSampling, random: ImageRandom) -> Tensor:
        """Draw ids (B, N) int64 for a condition of B images; row i uses its own generator of `random`."""
        assert not self.training, (
            "sample() is for evaluation: call eval() first, dropout would change the images"
        )

        forward = self._compiled() if self.compiled else self

        @cache
        def reading(guided: bool) -> Any:
            return self.read(self.with_unconditional(condition) if guided else condition)

        def predict(ids: Tensor, guided: bool) -> tuple[Tensor, Tensor | None]:
            if not guided:
                return forward(ids, reading(False)), None
            both = forward(torch.cat([ids, ids]), reading(True))  # one batch of 2B
            conditional, unconditional = both.chunk(2)
            return conditional, unconditional

        shape = (len(random.generators), self.tokens)
        return sample_masked(predict, shape, self.mask_id, sampling, random, random.device)

    def _compiled(self) -> Callable[[Tensor, Any], Tensor]:
        on_gpu = next(self.parameters()).is_cuda
        mode = "reduce-overhead" if on_gpu else "default"  # the first is CUDA graphs
        compiled: Callable[[Tensor, Any], Tensor] = torch.compile(self.forward, dynamic=False, mode=mode)
        return compiled


class ClassConditional(MaskedGenerator):
    """Generator: class labels (B,) → token ids (B, N). A backbone adds its layers and `forward`."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(tokens=config.tokens, mask_id=config.mask_id, dropout=config.class_dropout)
        self.config = config

    def drop(self, condition: Tensor, rows: Tensor) -> Tensor:
        return torch.where(rows, self.config.classes, condition)  # one past the last class: "no class"

    def with_unconditional(self, condition: Tensor) -> Tensor:
        return torch.cat([condition, torch.full_like(condition, self.config.classes)])

    def with_class(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Return what a backbone reads, (B, 1+N): the id of the class, or of "no class", then ids (B, N)."""
        return torch.cat([labels[:, None] + self.config.codebook_size + 1, ids], dim=1)


class PostNormBlock(nn.Module):
    """BERT's layer: LN(x + attention x), then LN(x + mlp x)."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.attention_dropout)
        self.norm1 = nn.LayerNorm(config.width, eps=1e-12)
        self.mlp = FeedForward(config.width, config.hidden)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x)))
        x = self.norm2(x + self.dropout(self.mlp(x)))
        return x


class MaskGIT(ClassConditional):
    """MaskGIT with a ViT."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(1 + config.tokens, config.width))
        self.token_type = nn.Parameter(torch.empty(config.width))
        self.norm_in = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.codebook_size)
        self._initialise()

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = self.word_embedding(self.with_class(ids, labels))  # (B, 1+N, D)
        x = self.dropout(self.norm_in(x + self.positions + self.token_type))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x[:, 1:])  # (B, N, V)
        return logits

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=self.config.init_std)
        nn.init.normal_(self.token_type, std=self.config.init_std)
