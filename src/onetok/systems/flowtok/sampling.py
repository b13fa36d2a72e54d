"""Euler sampling of FlowTok, from text tokens to image tokens or the reverse (arXiv 2503.10772, section 3.2).

The modulation of the DiT depends on time and indicator only, not on the images, so it is computed for many steps at
once. Both branches of guidance are one batch, so a step is one call of the DiT.

Legend: B images · N tokens · C token channels · K steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from onetok.losses.flow import SPREAD
from onetok.nn.quantizers import Posterior
from onetok.nn.text_condition import TextCondition
from onetok.sampling.guidance import guided
from onetok.sampling.seeds import ImageRandom
from onetok.systems.flowtok.model import Flow
from onetok.systems.flowtok.schema import FlowSampling

PREPARED = 64  # steps whose modulations are computed at once and kept


def sample_flow(
    model: Flow, condition: TextCondition | Posterior, sampling: FlowSampling, random: ImageRandom
) -> Tensor:
    """Sample tokens (B, N, C) float32 of images, or of captions; row i starts from a sample of image i's generator.

    As in the released code, the K steps have the length 1/K of the way each, while the K times at which the velocity is
    evaluated are evenly spaced from the start of the way to its end, both included.
    """
    device, branches = random.device, 2 if sampling.guidance != 1 else 1
    x = model.source(condition).at(random.normal(model.tokens, model.config.channels))  # (B, N, C)
    times = torch.linspace(0, 1 - SPREAD, sampling.steps, device=device)  # (K,)
    null = torch.tensor([False, True], device=device)[:branches]  # (branches,), indicators
    branch = torch.arange(branches, device=device).repeat_interleave(len(x))  # (B or 2B,), of each row
    for first in range(0, sampling.steps, PREPARED):
        part = times[first : first + PREPARED]  # (steps of this part,)
        modulation = model.modulation(part.repeat_interleave(branches), null.repeat(len(part)))
        for step in range(len(part)):
            rows = x.to(model.output.weight.dtype).repeat(branches, 1, 1)  # (B or 2B, N, C)
            velocity = model(rows, modulation.of(branches * step + branch)).float()  # (B or 2B, N, C)
            if branches == 2:
                conditional, unconditional = velocity.chunk(2)  # (B, N, C) each
                velocity = guided(conditional, unconditional, sampling.guidance - 1)  # (B, N, C)
            x = x + (1 - SPREAD) / sampling.steps * velocity  # (B, N, C)
    return x / model.target_scale
