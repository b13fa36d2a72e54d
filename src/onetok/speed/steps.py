"""The floor under sampling: in each step all weights are read once, or all products computed, whichever takes longer.

A step of few rows cannot be faster than reading the weights, one of many rows not faster than its products; what it
takes beside them (norms, softmax, noise, copies, reading keys and values) is ours to reduce. In MaskGen-KL every step
of the head's diffusion is a step too, which reads the head's weights.

What is read once and not in every step does not count as read: weights of adaptive norms, which sampling computes for
many steps at once, and the projections of text. Their products count: in the step in which they are computed, or before
the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn

from onetok.models.maskgen_kl import MaskGenKL
from onetok.models.maskgen_vq import MaskGenVQ
from onetok.models.mmdit import MMDiT
from onetok.models.rar import RAR
from onetok.speed.machine import Rates
from onetok.speed.products import record_parts, total_flops


class Step(NamedTuple):
    weight_bytes: int  # read in it
    flops: int  # of its products, attention's too


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a call of a generator cannot do without."""

    steps: tuple[Step, ...]
    count: int  # of steps as params count them: the steps of a diffusion are parts of one

    @property
    def flops(self) -> int:
        return sum(step.flops for step in self.steps)

    def seconds(self, rates: Rates) -> float:
        """Return the time of all steps on a machine of these rates."""
        return sum(
            max(step.weight_bytes / rates.bandwidth, step.flops / rates.flops_per_second)
            for step in self.steps
        )

    def steps_bound_by_reading(self, rates: Rates) -> int:
        return sum(
            step.weight_bytes / rates.bandwidth > step.flops / rates.flops_per_second for step in self.steps
        )

    def summary(self) -> list[dict[str, int]]:
        """Return every run of equal steps, in order, as JSON."""
        return [{**step._asdict(), "steps": len(list(equal))} for step, equal in groupby(self.steps)]


def work_of(model: nn.Module, sample: Callable[[], object]) -> Work:
    """Run `sample`, a call of a generator, once and return its work."""
    starts = step_bytes(model)
    # Without oneDNN a linear layer is a plain product, of as many rows as there are: none packed, none padded.
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


def step_bytes(model: nn.Module) -> dict[nn.Module, int]:
    """Return the modules whose call begins a step, the outermost first, and the bytes that such a step reads."""
    match model:
        case MaskGenKL():
            head = model.head
            blocks = [linear for block in head.each_block() for linear in (block.up, block.down)]
            diffusion = [head.input, *blocks, head.output]
            rounds = _bytes([model.input]) + _backbone_bytes(model.backbone)
            return {model.input: rounds, head.input: _bytes(diffusion)}
        case MaskGenVQ():
            codes = model.embedding.weight[: model.config.codebook_size]  # the head
            return {model.embedding: _backbone_bytes(model.backbone) + codes.nbytes}
        case RAR():
            read_once = {model.final_modulation, *(block.modulation for block in model.adaptive_blocks())}
            return {model.embedding: _bytes(set(_linears(model)) - read_once)}
    # Ids are embedded: the class's and the masks'. Of the embedding a step reads a few rows.
    (embedding,) = (module for module in model.modules() if isinstance(module, nn.Embedding))
    return {embedding: _bytes(_linears(model))}


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def _backbone_bytes(backbone: MMDiT) -> int:
    """Return the bytes that a pass reads; the queries of the last text's layer are not among them."""
    streams = [stream for block in backbone.each_block() for stream in (block.image, block.text)]
    linears = [linear for stream in streams for linear in _linears(stream) if linear is not stream.modulation]
    last = streams[-1].qkv
    return _bytes(linears) - _bytes([last]) // 3


def _bytes(linears: Iterable[nn.Linear]) -> int:
    return sum(p.nbytes for linear in linears for p in linear.parameters())
