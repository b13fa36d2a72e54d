"""The loss of masked-token prediction (MaskGIT, arXiv 2202.04200, section 3.1; weights as in TiTok's released code).

Legend: B batch · N tokens · V codebook entries.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from onetok.study.schema.generators import MaskedLoss


def masked_token_loss(logits: Tensor, ids: Tensor, masked: Tensor, settings: MaskedLoss) -> dict[str, Tensor]:
    """Return scalars: `total` = Σ w·CE / Σ w of logits (B, N, V) against ids (B, N) int64, and `accuracy`.

    The weight w is 1 on tokens where masked (B, N) bool is true and `settings.unmasked_weight` on the others. The
    accuracy counts masked tokens only.
    """
    cross_entropy = F.cross_entropy(
        rearrange(logits, "b n v -> b v n").float(),  # (B, V, N)
        ids,
        label_smoothing=settings.label_smoothing,
        reduction="none",
    )  # (B, N)
    weight = masked + (~masked) * settings.unmasked_weight  # (B, N)
    correct = (logits.argmax(dim=-1) == ids) & masked  # (B, N)
    return {
        "total": (weight * cross_entropy).sum() / weight.sum().clamp(min=1e-8),
        "accuracy": (correct.sum() / masked.sum()).detach(),
    }
