"""The next-token loss, for tokens in any order (RAR, arXiv 2411.00776, section 3.2).

Legend: B batch · N tokens · V codebook entries.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def next_token_loss(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return scalars: `total`, the mean cross-entropy of logits (B, N, V) against targets (B, N) int64, and `accuracy`.

    Column k of both is the k-th token to be predicted: targets are in the order of prediction, not in raster order.
    """
    flat = rearrange(logits, "b n v -> (b n) v").float()  # (B·N, V)
    return {
        "total": F.cross_entropy(flat, targets.flatten()),
        "accuracy": (logits.argmax(dim=-1) == targets).float().mean().detach(),
    }
