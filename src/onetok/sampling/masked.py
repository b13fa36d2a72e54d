"""Iterative decoding of masked tokens (MaskGIT, arXiv 2202.04200, section 3.2).

Legend: B batch · N tokens · V codebook entries · s step · S steps · r = (s+1)/S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onetok.sampling.guidance import Guidance, guided
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
    shape: tuple[int, int],
    mask_id: int,
    sampling: MaskedSampling,
    random: ImageRandom,
    device: torch.device,
) -> Tensor:
    """Fill `shape` = (B, N) masks in S steps; return ids (B, N) int64."""
    tokens = shape[1]
    ids = torch.full(shape, mask_id, dtype=torch.int64, device=device)
    weights = sampling.guidance.weights(sampling.steps)
    masked_count = tokens
    for step, weight in enumerate(weights):
        r = (step + 1) / sampling.steps
        temperature = sampling.temperature * (1 - r)
        logits = _predict(predict, ids, weight)  # (B, N, V)
        if sampling.softmax_annealing:
            logits = annealed(logits, r)

        masked = ids == mask_id
        drawn = _noisy(logits, temperature, random).argmax(dim=-1)  # (B, N)
        ids = torch.where(masked, drawn, ids)
        if step == sampling.steps - 1:
            break

        confidence = logits.gather(-1, ids[..., None]).squeeze(-1)  # (B, N)
        confidence = _noisy(confidence, temperature, random).masked_fill(~masked, torch.inf)
        masked_count = sampling.schedule.remaining(r, tokens, masked_count)
        least = confidence.argsort(dim=-1, stable=True)[:, :masked_count]
        ids = ids.scatter(1, least, mask_id)
    return ids


def _predict(predict: Predict, ids: Tensor, weight: float) -> Tensor:
    """Return float32 logits under guidance, without the unconditional branch where it would have no effect."""
    conditional, unconditional = predict(ids, weight != 0)
    logits = conditional if unconditional is None else guided(conditional, unconditional, weight)
    return logits.float()


def _noisy(logits: Tensor, temperature: float, random: ImageRandom) -> Tensor:
    """Add a fresh draw of Gumbel noise to logits (B, …); none is drawn at temperature 0, as in the last step."""
    if temperature == 0:
        return logits
    return logits + temperature * random.gumbel(*logits.shape[1:])
