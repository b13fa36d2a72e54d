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

from onetok.nn.layers import DiTBlock, TimeEmbedding, init_linear, modulated, sincos_2d
from onetok.study.schema.speeds import DiTModel

STD = 0.02  # of random weights; speed does not depend on it


class DiT(nn.Module):
    """Noisy latents (B, C, S, S), timesteps (B,) and labels (B,) int64 → noise and variance (B, 2C, S, S)."""

    positions: Tensor

    def __init__(self, config: DiTModel) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        self.patch_embed = nn.Conv2d(config.channels, width, patch, patch)
        self.register_buffer("positions", sincos_2d(config.latent // patch, width, period=10000.0))
        self.time = TimeEmbedding(width)
        self.label = nn.Embedding(config.classes + 1, width)  # label K is the null class
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.layers))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, 2 * config.channels * patch**2)
        for module in self.modules():
            init_linear(module, STD)

    def forward(self, latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        x = rearrange(self.patch_embed(latents), "b d h w -> b (h w) d") + self.positions  # (B, g², D)
        condition = F.silu(self.time(times) + self.label(labels))  # (B, D)
        for block in self.blocks:
            assert isinstance(block, DiTBlock)
            x = block(x, block.modulation(condition))  # (B, g², D)
        shift, scale = self.final_modulation(condition)[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        x = self.head(modulated(x, shift, scale))  # (B, g², p·p·2C)
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
