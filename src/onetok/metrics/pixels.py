"""Metrics of pixels, one number an image.

Legend: B images · H,W pixels. Pairs are (B, 3, H, W) floats in [0, 1], quantised to 8 bits beforehand.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from onetok.metrics.names import SSIM_WINDOW


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair in dB: (B,).

    Equal images would have none. They count as if one value of one pixel were off by one of 255 levels, the smallest
    error that pictures of 8 bits can have: 83 dB at 32 px, 101 dB at 256 px.
    """
    error = (a.double() - b.double()).square().mean(dim=(1, 2, 3))
    smallest = 1 / (255**2 * a[0].numel())
    return -10 * error.clamp(min=smallest).log10()


def is_blank(images: Tensor, deviation: float) -> Tensor:
    """Say of pictures (B, 3, H, W) uint8 which are (nearly) one flat colour: (B,) bool.

    They are where no channel's standard deviation over the pixels exceeds `deviation`, in levels of 255.
    """
    spread = images.double().std(dim=(2, 3), correction=0)  # (B, 3)
    return (spread <= deviation).all(dim=1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each pair: (B,) (Wang et al. 2004: 11x11 Gaussian, σ 1.5, K 0.01 and 0.03).

    Population covariances, borders cropped, channels averaged.
    """
    a, b = a.double(), b.double()
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (numerator / denominator).mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    reach = SSIM_WINDOW // 2
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, SSIM_WINDOW)
    x = F.conv2d(x, kernel[..., None], groups=x.shape[1])  # (B, 3, H-10, W)
    return F.conv2d(x, kernel[:, :, None], groups=x.shape[1])  # (B, 3, H-10, W-10)
