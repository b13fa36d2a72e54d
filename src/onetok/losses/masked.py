"""Masked-token prediction (MaskGIT, arXiv 2202.04200, section 3.1; weights of TiTok's released recipe).

Legend: B batch · N tokens · V codebook entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLoss:
    label_smoothing: float
    unmasked_weight: float  # weight of tokens that were visible; masked ones weigh 1


def masked_token_loss(logits: Tensor, ids: Tensor, masked: Tensor, settings: MaskedLoss) -> dict[str, Tensor]:
    """Return Σ w·CE / Σ w of logits (B, N, V) against ids (B, N), and the accuracy on masked tokens."""
    cross_entropy = F.cross_entropy(
        rearrange(logits, "b n v -> b v n").float(),
        ids,
        label_smoothing=settings.label_smoothing,
        reduction="none",
    )  # (B, N)
    weight = masked + (~masked) * settings.unmasked_weight
    correct = (logits.argmax(dim=-1) == ids) & masked
    return {
        "total": (weight * cross_entropy).sum() / weight.sum().clamp(min=1e-8),
        "accuracy": (correct.sum() / masked.sum()).detach(),
    }
