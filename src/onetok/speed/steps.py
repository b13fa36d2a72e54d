"""The roofline of sampling: a step takes at least the time to load all weights, and at least that of its products.

Loading the weights bounds steps of few rows, the matrix products bound steps of many rows. A fast implementation can
reduce the rest: norms, softmax, noise, copies, and loads of keys and values. In MaskGen-KL every step of the head's
diffusion is a step too, which loads the head's weights.

Weights that are not loaded in every step do not count as loaded: those of adaptive norms, which sampling computes for
many steps at once, and those of text projections. Their products count in the step in which they are computed, or
before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn

from onetok.speed.machine import Rates
from onetok.speed.products import record_parts, total_flops
from onetok.systems.registry import generator_system


class Step(NamedTuple):
    """The necessary work of one step."""

    weight_bytes: int  # bytes of weights that it loads
    flops: int  # floating-point operations of its matrix products, attention's included


@dataclass(frozen=True, kw_only=True)
class Work:
    """The necessary work of sampling a batch."""

    steps: tuple[Step, ...]
    count: int  # number of steps as in params, where the diffusion steps of MaskGen-KL are part of one step

    @property
    def flops(self) -> int:
        """Return the floating-point operations of all steps."""
        return sum(step.flops for step in self.steps)

    def seconds(self, rates: Rates) -> float:
        """Return the roofline in seconds: the least time of all steps on a machine of these rates."""
        return sum(
            max(step.weight_bytes / rates.bandwidth, step.flops / rates.flops_per_second)
            for step in self.steps
        )

    def bandwidth_bound_steps(self, rates: Rates) -> int:
        """Return how many steps are bound by memory bandwidth, not by floating-point operations."""
        return sum(
            step.weight_bytes / rates.bandwidth > step.flops / rates.flops_per_second for step in self.steps
        )

    def summary(self) -> list[dict[str, int]]:
        """Return the steps in order as JSON, consecutive equal steps as one entry with their number."""
        return [{**step._asdict(), "steps": len(list(equal))} for step, equal in groupby(self.steps)]


def work_of(model: nn.Module, sample: Callable[[], object]) -> Work:
    """Run `sample`, a call that samples with `model`, once and return its necessary work."""
    starts = generator_system(model).step_bytes(model)
    # With oneDNN disabled a linear layer is a plain product of its actual rows, without packing and padding.
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        parts = record_parts(sample, starts)
    finally:
        torch.backends.mkldnn.enabled = enabled
    steps = [
        Step(starts[part.start] if part.start is not None else 0, total_flops(part.products))
        for part in parts
        if part.start is not None or part.products
    ]
    outer = next(iter(starts))
    return Work(steps=tuple(steps), count=sum(part.start is outer for part in parts))
