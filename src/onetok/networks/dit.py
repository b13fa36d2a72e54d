"""DiT: a diffusion transformer on the latents of a VAE (arXiv 2212.09748), its forward pass only.

TiTok's paper compares the speed of its generators with that of DiT-XL/2; this module lets speed measurements do the
same on one machine. It has random weights: it is neither trained nor sampled, and no published weights load into it.

    configuration      width   layers   heads   patch   parameters at 256 px   positions at 256, 512 px
    XL/2                1152       28      16       2                  675 M             256,      1024

Legend: B batch · C latent channels · S side of the latent image · p patch · g = S/p patches a side · D width
        · K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from onetok.nn.layers import Attention, init_linear, sincos_1d, sincos_2d
from onetok.study.schema.speeds import DiTModel

EPS = 1e-6  # of every norm
FREQUENCIES = 256  # width of the sinusoidal embedding of a timestep
HIDDEN = 4  # hidden width of the feed-forward over the width
STD = 0.02  # of random weights; speed does not depend on it


class DiTBlock(nn.Module):
    """Pre-norm block; the condition shifts and scales its norms and gates its branches (adaLN-Zero)."""

    def __init__(self, config: DiTModel) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPS, elementwise_affine=False)
        self.attention = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=EPS, elementwise_affine=False)
        self.up = nn.Linear(config.width, HIDDEN * config.width)
        self.down = nn.Linear(HIDDEN * config.width, config.width)
        self.modulation = nn.Linear(config.width, 6 * config.width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x (B, g², D) after the block, under condition (B, D)."""
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)  # (B, 1, D) each
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)  # (B, g², D)
        hidden = F.gelu(self.up(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")  # (B, g², 4D)
        x = x + gate2 * self.down(hidden)  # (B, g², D)
        return x


class DiT(nn.Module):
    """Noisy latents (B, C, S, S), timesteps (B,) and labels (B,) int64 → noise and variance (B, 2C, S, S)."""

    positions: Tensor

    def __init__(self, config: DiTModel) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        self.patch_embed = nn.Conv2d(config.channels, width, patch, patch)
        self.register_buffer("positions", sincos_2d(config.latent // patch, width, period=10000.0))
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(config.classes + 1, width)  # label K is the null class
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, 2 * config.channels * patch**2)
        for module in self.modules():
            init_linear(module, STD)

    def forward(self, latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(latents), "b d h w -> b (h w) d") + self.positions  # (B, g², D)
        times = sincos_1d(times, FREQUENCIES, period=10000.0).to(x.dtype)  # (B, 256)
        condition = F.silu(self.time(times) + self.label(labels))  # (B, D)
        for block in self.blocks:
            x = block(x, condition)  # (B, g², D)
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        x = self.head(self.final_norm(x) * (1 + scale) + shift)  # (B, g², p·p·2C)
        grid, patch = self.config.latent // self.config.patch, self.config.patch
        out: Tensor = rearrange(
            x, "b (h w) (p q c) -> b c (h p) (w q)", h=grid, p=patch, q=patch
        )  # (B, 2C, S, S)
        return out

    @torch.inference_mode()
    def guided_noise(self, latents: Tensor, time: int, labels: Tensor, scale: float) -> Tensor:
        """Return the noise (B, C, S, S) of latents at one timestep, with classifier-free guidance of this scale.

        The conditional and the unconditional branch are one batch of 2B.
        """
        both = torch.cat([labels, torch.full_like(labels, self.config.classes)])  # (2B,)
        times = torch.full_like(both, time)  # (2B,)
        noise: Tensor = self(torch.cat([latents, latents]), times, both)[
            :, : self.config.channels
        ]  # (2B, C, S, S)
        conditional, unconditional = noise.chunk(2)  # (B, C, S, S) each
        return unconditional + scale * (conditional - unconditional)
