"""The base class of generators that predict masked discrete tokens, as MaskGIT does: training loss and sampling.

Training is section 3.1 of MaskGIT (arXiv 2202.04200), sampling section 3.2.

Legend: B batch · N tokens · V codebook entries.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from onetok.losses.masked import masked_token_loss
from onetok.nn.protocols import Generator
from onetok.sampling.masked import sample_masked
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.generators import MaskedLoss
from onetok.study.schema.sampling import MaskedSampling


class MaskedGenerator(Generator):
    """Generator: a condition of B images → token ids (B, N) int64. A system adds its network and its kind of condition.

    The condition is class labels (B,) int64 or a TextCondition of B captions.
    """

    def __init__(self, *, mask_id: int, dropout: float) -> None:
        super().__init__()
        self.mask_id = mask_id
        self.condition_dropout = dropout  # share of training samples whose condition is dropped, for guidance

    @abstractmethod
    def drop(self, condition: Any, rows: Tensor) -> Any:
        """Return the condition of B images with the null condition in those where rows (B,) bool is true."""

    @abstractmethod
    def with_unconditional(self, condition: Any) -> Any:
        """Return the condition of 2B images: the B given ones, then B null conditions."""

    def embed_condition(self, condition: Any) -> Any:
        """Return what `forward` needs of a condition. It depends on the condition alone: sampling computes it once."""
        return condition

    @abstractmethod
    def forward(self, ids: Tensor, embedded: Any) -> Tensor:
        """Return logits (B, N, V) of ids (B, N) int64, some of them the mask id, given `embed_condition(condition)`."""

    def loss(self, ids: Tensor, condition: Any, settings: MaskedLoss) -> dict[str, Tensor]:
        """Mask a random share of ids (B, N) int64, drop some of the B conditions, and predict every token.

        Returns scalars: `total`, the loss to minimise, and `accuracy` on the masked tokens, in [0, 1].
        """
        schedule = MaskSchedule(settings.mask_schedule)
        count = schedule.masked_count(torch.rand(len(ids), device=ids.device), self.tokens)  # (B,)
        rank = torch.rand(ids.shape, device=ids.device).argsort(dim=1).argsort(dim=1)  # (B, N), permutations
        masked = rank < count[:, None]  # (B, N)
        dropped = torch.rand(len(ids), device=ids.device) < self.condition_dropout  # (B,)
        embedded = self.embed_condition(self.drop(condition, dropped))
        logits = self(torch.where(masked, self.mask_id, ids), embedded)  # (B, N, V)
        return masked_token_loss(logits, ids, masked, settings)


def sample_masked_generator(
    model: MaskedGenerator,
    condition: Any,
    settings: MaskedSampling,
    random: ImageRandom,
    *,
    compiled: bool = False,
) -> Tensor:
    """Sample ids (B, N) int64 for a condition of B images; row i uses its own random stream of `random`.

    `compiled` runs the network through torch.compile: the first step takes longer, the others less time.
    """
    forward = _compiled(model) if compiled else model

    @cache
    def embedded(guided: bool) -> Any:
        return model.embed_condition(model.with_unconditional(condition) if guided else condition)

    def predict(ids: Tensor, guided: bool) -> tuple[Tensor, Tensor | None]:
        if not guided:
            return forward(ids, embedded(False)), None
        both = forward(torch.cat([ids, ids]), embedded(True))  # (2B, N, V), both branches in one batch
        conditional, unconditional = both.chunk(2)  # (B, N, V) each
        return conditional, unconditional

    shape = (len(random.generators), model.tokens)
    return sample_masked(predict, shape, model.mask_id, settings, random, random.device)


def _compiled(model: MaskedGenerator) -> Callable[[Tensor, Any], Tensor]:
    on_gpu = next(model.parameters()).is_cuda
    mode = "reduce-overhead" if on_gpu else "default"  # "reduce-overhead" uses CUDA graphs
    compiled: Callable[[Tensor, Any], Tensor] = torch.compile(model.forward, dynamic=False, mode=mode)
    return compiled
