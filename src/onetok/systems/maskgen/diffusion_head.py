"""The per-token diffusion head of MaskGen-KL (MAR, arXiv 2406.11838, section 3.2).

A small MLP denoises the latents of one token, conditioned on the timestep and on the backbone's state of the token. The
condition shifts and scales every norm and gates every branch (adaLN). It does not depend on the latents, so sampling
can compute its modulations in advance.

Legend: R tokens · C channels of a latent · W width of the head · Z width of the backbone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.nn.layers import TimeEmbedding
from onetok.systems.maskgen.schema import DiffusionHeadConfig

EPS = 1e-6  # of every norm


class HeadBlock(nn.Module):
    """Residual MLP block: x + gate · MLP(LN(x)·(1 + scale) + shift)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x (R, W) after the block, under condition (R, W)."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)  # (R, W) each
        hidden = F.silu(self.up(self.norm(x) * (1 + scale) + shift))  # (R, W)
        return torch.addcmul(x, gate, self.down(hidden))  # (R, W)


class DiffusionHead(nn.Module):
    """Noisy latents (R, C), their steps (R,) int64 and the backbone's states (R, Z) → (noise, v) (R, 2C)."""

    def __init__(self, config: DiffusionHeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.input = nn.Linear(config.channels, width)
        self.time = TimeEmbedding(width)
        self.condition = nn.Linear(config.condition_width, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(config.layers))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final_norm = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.output = nn.Linear(width, 2 * config.channels)

    def forward(self, x: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """Return (noise, v) (R, 2C) of noisy latents x (R, C) at steps t (R,) int64, under states (R, Z)."""
        condition = F.silu(self.embed_steps(t) + self.condition(states))  # (R, W)
        x = self.input(x)  # (R, W)
        for block in self.blocks:
            x = block(x, condition)  # (R, W)
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)  # (R, W) each
        out: Tensor = self.output(self.final_norm(x) * (1 + scale) + shift)  # (R, 2C)
        return out

    def embed_steps(self, t: Tensor) -> Tensor:
        """Return the embeddings (R, W) of steps (R,) int64, numbered as in training."""
        embedded: Tensor = self.time(t)  # (R, W)
        return embedded

    def each_block(self) -> list[HeadBlock]:
        return [block for block in self.blocks if isinstance(block, HeadBlock)]
