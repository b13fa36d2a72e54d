"""The floor under sampling: in each step all weights are read once, or all products computed, whichever takes longer.

A step of few rows cannot be faster than reading the weights, one of many rows not faster than its products; what it
takes beside them (norms, softmax, noise, copies, reading keys and values) is ours to reduce. The weights of adaptive
norms are not among those read in every step, since sampling computes all places' norms at once; their products count,
in the step in which they are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from onetok.models.rar import RAR
from onetok.speed.machine import Rates
from onetok.speed.products import record_parts, total_flops


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a call of a generator cannot do without."""

    weight_bytes: int  # read in every step
    step_flops: tuple[int, ...]  # of the products of each step, attention's too

    @property
    def flops(self) -> int:
        return sum(self.step_flops)

    def seconds(self, rates: Rates) -> float:
        """Return the time of all steps on a machine of these rates."""
        reading = self.weight_bytes / rates.bandwidth
        return sum(max(reading, flops / rates.flops_per_second) for flops in self.step_flops)

    def steps_bound_by_reading(self, rates: Rates) -> int:
        reading = self.weight_bytes / rates.bandwidth
        return sum(reading > flops / rates.flops_per_second for flops in self.step_flops)


def work_of(model: nn.Module, sample: Callable[[], object]) -> Work:
    """Run `sample`, a call of a generator, once and return its work.

    Each step starts with embedding ids: the class's and the masks', or the last drawn token's.
    """
    (embedding,) = (module for module in model.modules() if isinstance(module, nn.Embedding))
    # Without oneDNN a linear layer is a plain product, of as many rows as there are: none packed, none padded.
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        before, *steps = record_parts(sample, embedding)
    finally:
        torch.backends.mkldnn.enabled = enabled
    assert not before, "products before the first step"
    return Work(weight_bytes=step_bytes(model), step_flops=tuple(map(total_flops, steps)))


def step_bytes(model: nn.Module) -> int:
    """Return the bytes of all linear layers but those of adaptive norms; of the embedding a step reads a few rows."""
    adaptive: set[nn.Module] = set()
    if isinstance(model, RAR):
        adaptive = {model.final_modulation, *(block.modulation for block in model.adaptive_blocks())}
    linears = (m for m in model.modules() if isinstance(m, nn.Linear) and m not in adaptive)
    return sum(p.numel() * p.itemsize for linear in linears for p in linear.parameters())
