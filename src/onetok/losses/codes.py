"""Prediction of a frozen VQGAN's codes: stage 1 of TiTok (arXiv 2406.07550, section 3.3).

Legend: B batch · N patches · V proxy codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeLoss:
    quantizer: float  # weight of the quantizer's terms beside the cross-entropy

    def __call__(self, logits: Tensor, codes: Tensor, quantizer: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of logits (B, N, V) against the proxy's codes (B, N)."""
        cross_entropy = F.cross_entropy(rearrange(logits, "b n v -> b v n").float(), codes)
        total = cross_entropy + self.quantizer * sum(quantizer.values())
        return {"total": total, "codes": cross_entropy, **quantizer}
