"""Exponential moving average of a model's parameters, with a warm-up of its decay."""

from __future__ import annotations

import copy

import torch
from torch import nn


def ema_decay(updates: int, maximum: float) -> float:
    """Return the decay of update number `updates` (1, 2, …): min(maximum, (1+s)/(10+s)) with s = updates - 1.

    It is 0 in the first update, which copies the parameters.
    """
    s = updates - 1
    return 0.0 if s <= 0 else min(maximum, (1 + s) / (10 + s))


class ExponentialMovingAverage:
    """Holds `average`, a copy of a model with the moving averages of its parameters and the values of its buffers."""

    def __init__(self, model: nn.Module, maximum: float) -> None:
        self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.maximum, self.updates = maximum, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the averages towards the model's parameters, and copy its buffers."""
        self.updates += 1
        decay = ema_decay(self.updates, self.maximum)
        torch._foreach_lerp_(list(self.average.parameters()), list(model.parameters()), 1 - decay)
        for average, buffer in zip(self.average.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, object]:
        """Return the averages and the number of updates, so that a resumed run has the same decays."""
        return {"updates": self.updates, "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what `state_dict` returned."""
        updates, average = state["updates"], state["average"]
        assert isinstance(updates, int) and isinstance(average, dict)
        self.updates = updates
        self.average.load_state_dict(average)
