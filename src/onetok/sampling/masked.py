"""Iterative decoding of masked tokens (MaskGIT, arXiv 2202.04200, section 3.2).

Legend: B batch · N tokens · V codebook entries · s step · S steps · r = (s+1)/S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onetok.sampling.guidance import Guidance
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom

# (ids (B, N), guided) → conditional and, where guided, unconditional logits (B, N, V)
Predict = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedSampling:
    steps: int  # S
    temperature: float  # τ of the Gumbel noise at the start; falls to 0 with 1-r
    guidance: Guidance
    schedule: MaskSchedule
    softmax_annealing: bool


def annealed(logits: Tensor, r: float) -> Tensor:
    """Divide logits by a softmax temperature that falls from 1.3 to 0.5 over the steps."""
    return logits / (0.5 + 0.8 * (1 - r))


def sample_masked(
    predict: Predict,
    shape: tuple[int, int, int],
    mask_id: int,
    sampling: MaskedSampling,
    random: ImageRandom,
    device: torch.device,
) -> Tensor:
    """Fill `shape` = (B, N, V) masks in S steps; return ids (B, N) int64."""
    batch, tokens, entries = shape
    ids = torch.full((batch, tokens), mask_id, dtype=torch.int64, device=device)
    masked_count = tokens
    for step in range(sampling.steps):
        r = (step + 1) / sampling.steps
        temperature = sampling.temperature * (1 - r)
        logits = _guided_logits(predict, ids, sampling, step).float()  # (B, N, V)
        if sampling.softmax_annealing:
            logits = annealed(logits, r)

        masked = ids == mask_id
        drawn = (logits + temperature * random.gumbel(tokens, entries)).argmax(dim=-1)  # (B, N)
        ids = torch.where(masked, drawn, ids)
        if step == sampling.steps - 1:
            break

        confidence = logits.gather(-1, ids[..., None]).squeeze(-1)  # (B, N)
        confidence = confidence + temperature * random.gumbel(tokens)
        confidence = confidence.masked_fill(~masked, torch.inf)
        masked_count = sampling.schedule.remaining(r, tokens, masked_count)
        least = confidence.argsort(dim=-1, stable=True)[:, :masked_count]
        ids = ids.scatter(1, least, mask_id)
    return ids


def _guided_logits(predict: Predict, ids: Tensor, sampling: MaskedSampling, step: int) -> Tensor:
    guidance = sampling.guidance
    guided = guidance.enabled and guidance.weight(step, sampling.steps) != 0
    conditional, unconditional = predict(ids, guided)
    if unconditional is None:
        return conditional
    return guidance.apply(conditional, unconditional, step, sampling.steps)
