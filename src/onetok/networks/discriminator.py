"""The discriminator of tokenizer training (TA-TiTok, arXiv 2501.07730, section 4.1).

It is a PatchGAN of convolutions and blur-pooling (arXiv 1904.11486): a low-pass filter before each downsampling makes
the logits nearly shift-equivariant.

Legend: B batch · H,W pixels · C channels of a stage · h,w sides of a stage's feature map · S side of the logit map.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from onetok.study.schema.tokenizers import DiscriminatorModel


class Stage(nn.Module):
    """Convolution, blur-pool, group norm: (B, C, h, w) → (B, C', h/2, w/2)."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.pool = BlurPool()
        self.norm = nn.GroupNorm(groups, after)

    def forward(self, x: Tensor) -> Tensor:
        return _activate(self.norm(self.pool(self.conv(x))))  # (B, C', h/2, w/2)


class BlurPool(nn.Module):
    """A 1-3-3-1 low-pass filter in both directions with stride 2: (B, C, h, w) → (B, C, h/2, w/2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", torch.outer(row, row) / row.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = repeat(self.kernel.to(x.dtype), "h w -> c 1 h w", c=channels)  # (C, 1, 4, 4)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=channels)  # (B, C, h/2, w/2)


class Discriminator(nn.Module):
    """Images (B, 3, H, W) float near [0, 1] → logits (B, 1, S, S); a high logit means real.

    Weights keep PyTorch's default initialisation, because the papers state none.
    """

    def __init__(self, config: DiscriminatorModel) -> None:
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
        x = F.adaptive_max_pool2d(x, self.config.side)  # (B, C, S, S); upsamples by repetition if h < S
        out: Tensor = self.to_logits(_activate(self.mix(x)))  # (B, 1, S, S)
        return out


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)
