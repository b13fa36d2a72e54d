"""Metrics on pixels, one number for each image. Values are floats in [0, 1] that were quantised to 8 bits beforehand.

Legend: B images · H,W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from onetok.study.metric_names import SSIM_WINDOW


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair of images (B, 3, H, W) in [0, 1], in dB: (B,) float64.

    That of equal images would be infinite. They count as if a single value differed by one of 255 levels, the smallest
    error of 8-bit images: 83 dB at 32 px, 101 dB at 256 px.
    """
    error = (a.double() - b.double()).square().mean(dim=(1, 2, 3))  # (B,)
    smallest = 1 / (255**2 * a[0].numel())
    return -10 * error.clamp(min=smallest).log10()


def is_blank(images: Tensor, deviation: float) -> Tensor:
    """Return which images (B, 3, H, W) uint8 are nearly of one flat colour: (B,) bool.

    Those are images in which no channel's standard deviation over pixels exceeds `deviation`, in levels of 255.
    """
    spread = images.double().std(dim=(2, 3), correction=0)  # (B, 3)
    return (spread <= deviation).all(dim=1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of each pair of images (B, 3, H, W) in [0, 1]: (B,) float64, at most 1.

    As Wang et al. (2004): a Gaussian window of 11x11 with σ 1.5, K1 0.01 and K2 0.03. Covariances are those of the
    population, positions whose window leaves the image are left out, and channels are averaged.
    """
    a, b = a.double(), b.double()
    mean_a, mean_b = _blur(a), _blur(b)  # (B, 3, H-10, W-10) each, as all that follow
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return (numerator / denominator).mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """Return the Gaussian-weighted means of x (B, 3, H, W) over windows of 11x11: (B, 3, H-10, W-10)."""
    reach = SSIM_WINDOW // 2
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)  # (11,)
    kernel = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, SSIM_WINDOW)  # (3, 1, 11)
    x = F.conv2d(x, kernel[..., None], groups=x.shape[1])  # (B, 3, H-10, W)
    return F.conv2d(x, kernel[:, :, None], groups=x.shape[1])  # (B, 3, H-10, W-10)
