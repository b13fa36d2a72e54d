"""The loss of predicting a frozen VQGAN's codes, stage 1 of two-stage TiTok (arXiv 2406.07550, section 3.3).

Legend: B batch · N patches · V codebook entries of the VQGAN (proxy codes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeLoss:
    """Cross-entropy of the codes plus the weighted terms of TiTok's own quantizer."""

    quantizer: float  # weight of the quantizer's terms; that of the cross-entropy is 1

    def __call__(self, logits: Tensor, codes: Tensor, quantizer: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of logits (B, N, V) against the VQGAN's codes (B, N) int64, and its unweighted terms."""
        by_class = rearrange(logits, "b n v -> b v n").float()  # (B, V, N), as cross_entropy expects them
        cross_entropy = F.cross_entropy(by_class, codes)
        total = cross_entropy + self.quantizer * sum(quantizer.values())
        return {"total": total, "codes": cross_entropy, **quantizer}
