"""AdamW with the papers' parameter groups."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from onetok.study.schema.training import AdamW


def decays(name: str, parameter: nn.Parameter, exempt: Iterable[str]) -> bool:
    """Return whether weight decay applies to a parameter: not to vectors, nor if its name contains an exempt string."""
    return parameter.ndim >= 2 and not any(word in name for word in exempt)


def build_optimizer(module: nn.Module, settings: AdamW, exempt: tuple[str, ...]) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of `module`, in two groups, with and without weight decay.

    A parameter whose name contains one of `exempt` is not decayed.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if decays(name, p, exempt)]
    undecayed = [p for name, p in named if not decays(name, p, exempt)]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=True,
    )
