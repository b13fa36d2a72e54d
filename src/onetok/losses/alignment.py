"""Alignment of FlowTok's text tokens with the text encoder's states (arXiv 2503.10772, section 3.3).

It trains the text tokens to keep the meaning of the caption. The contrastive form is the paper's choice; the cosine
form with a margin is the one that its table 4b compares it with. The paper gives no formula for the latter; here it is
that of the marginal cosine similarity loss of VA-VAE (arXiv 2501.01423).

Legend: B batch · N tokens · C token channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_alignment(tokens: Tensor, states: Tensor, log_scale: Tensor) -> Tensor:
    """Return the mean, a scalar, of the cross-entropies of both directions, in float32 under any autocast.

    Text tokens and projected text states are (B, N, C); all N·C numbers of a caption are one vector. `log_scale` () is
    the logarithm of the factor from cosine similarity to logits. As in the released code, this factor is not bounded,
    and equal captions are negatives of each other.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        tokens, states = (F.normalize(x.float().flatten(1), dim=1) for x in (tokens, states))  # (B, N·C) each
        logits = log_scale.exp() * tokens @ states.T  # (B, B), text tokens by text states
        own = torch.arange(len(logits), device=logits.device)  # (B,)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def cosine_alignment(tokens: Tensor, states: Tensor, margin: float) -> Tensor:
    """Return the mean over tokens, a scalar, of relu(1 - margin - cosine similarity), computed in float32.

    Text tokens and projected text states are (B, N, C); each token is compared with the state of its own position.
    """
    similarity = F.cosine_similarity(tokens.float(), states.float(), dim=-1)  # (B, N)
    return F.relu(1 - margin - similarity).mean()
