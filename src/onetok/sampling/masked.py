"""Iterative decoding of masked tokens (MaskGIT, arXiv 2202.04200, section 3.2).

Legend: B batch · N tokens · V codebook entries · s step, from 0 · S steps · r = (s+1)/S · M tokens to mask again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from onetok.sampling.guidance import guidance_weights, guided
from onetok.sampling.schedules import MaskSchedule
from onetok.sampling.seeds import ImageRandom
from onetok.study.schema.sampling import MaskedSampling

# (ids (B, N), guided) → conditional logits (B, N, V), and the unconditional ones if `guided`, else None
Predict = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]


def annealed(logits: Tensor, r: float) -> Tensor:
    """Return logits divided by a softmax temperature that falls from 1.3 at r = 0 to 0.5 at r = 1 (TiTok's code)."""
    return logits / (0.5 + 0.8 * (1 - r))


def sample_masked(
    predict: Predict,
    shape: tuple[int, int],
    mask_id: int,
    sampling: MaskedSampling,
    random: ImageRandom,
    device: torch.device,
) -> Tensor:
    """Sample ids (B, N) int64 in S steps, from masks alone.

    Each step samples all masked tokens, keeps the most confident ones, and masks the rest again.
    """
    tokens = shape[1]
    ids = torch.full(shape, mask_id, dtype=torch.int64, device=device)  # (B, N)
    schedule, weights = (
        MaskSchedule(sampling.mask_schedule),
        guidance_weights(sampling.guidance, sampling.steps),
    )
    masked_count = tokens
    for step, weight in enumerate(weights):
        r = (step + 1) / sampling.steps
        temperature = sampling.temperature * (1 - r)
        logits = _predict(predict, ids, weight)  # (B, N, V)
        if sampling.softmax_annealing:
            logits = annealed(logits, r)

        masked = ids == mask_id  # (B, N)
        sampled = _noisy(logits, temperature, random).argmax(dim=-1)  # (B, N)
        ids = torch.where(masked, sampled, ids)
        if step == sampling.steps - 1:
            break

        confidence = logits.gather(-1, ids[..., None]).squeeze(-1)  # (B, N)
        # Tokens of earlier steps have infinite confidence: they are never masked again.
        confidence = _noisy(confidence, temperature, random).masked_fill(~masked, torch.inf)
        masked_count = schedule.remaining(r, tokens, masked_count)  # M
        least = confidence.argsort(dim=-1, stable=True)[:, :masked_count]  # (B, M)
        ids = ids.scatter(1, least, mask_id)
    return ids


def _predict(predict: Predict, ids: Tensor, weight: float) -> Tensor:
    """Return guided logits (B, N, V) float32; at weight 0 the unconditional branch is not computed."""
    conditional, unconditional = predict(ids, weight != 0)
    logits = conditional if unconditional is None else guided(conditional, unconditional, weight)
    return logits.float()


def _noisy(logits: Tensor, temperature: float, random: ImageRandom) -> Tensor:
    """Return logits (B, …) plus temperature times Gumbel noise; the last step has temperature 0 and no noise."""
    if temperature == 0:
        return logits
    return logits + temperature * random.gumbel(*logits.shape[1:])
