"""The discriminator of tokenizer training (TA-TiTok, arXiv 2501.07730, section 4.1).

Convolutions and blur-pooling (arXiv 1904.11486): a low-pass filter before the side is halved, so that a
shifted image gets shifted logits.

Legend: B batch · H,W pixels · C channels of a stage · S side of the logit map.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    width: int  # channels at full resolution; published: 128
    stages: tuple[int, ...]  # channels of each stage, which halves the side; published: 128, 256, 512
    groups: int  # of the group norms; published: 32
    side: int  # S; published: 16

    def __post_init__(self) -> None:
        for channels in self.stages:
            if channels % self.groups:
                raise ValueError(f"{self.groups} groups do not divide a stage of {channels} channels")


class Stage(nn.Module):
    """Convolution, blur-pool, group norm: (B, C, h, w) → (B, C', h/2, w/2)."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.pool = BlurPool()
        self.norm = nn.GroupNorm(groups, after)

    def forward(self, x: Tensor) -> Tensor:
        return _activate(self.norm(self.pool(self.conv(x))))


class BlurPool(nn.Module):
    """Every second value of a 1-3-3-1 low-pass filter: (B, C, h, w) → (B, C, h/2, w/2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", torch.outer(row, row) / row.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = repeat(self.kernel.to(x.dtype), "h w -> c 1 h w", c=channels)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=channels)


class Discriminator(nn.Module):
    """Images (B, 3, H, W) float near [0, 1] → logits (B, 1, S, S): high means real.

    The papers do not say how its weights start: PyTorch's defaults.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv2d(3, config.width, 5, padding=2)
        widths = (config.width, *config.stages)
        self.stages = nn.ModuleList(Stage(before, after, config.groups) for before, after in pairwise(widths))
        self.mix = nn.Conv2d(widths[-1], widths[-1], 1)
        self.to_logits = nn.Conv2d(widths[-1], 1, 5, padding=2)

    def forward(self, images: Tensor) -> Tensor:
        x = _activate(self.conv_in(images))  # (B, C, H, W)
        for stage in self.stages:
            x = stage(x)  # (B, C, h, w)
        x = F.adaptive_max_pool2d(x, self.config.side)  # (B, C, S, S), repeats where h < S
        out: Tensor = self.to_logits(_activate(self.mix(x)))  # (B, 1, S, S)
        return out


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)
