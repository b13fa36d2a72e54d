"""Pixel and perceptual terms of tokenizer training. Images are (B, 3, H, W) floats near [0, 1].

Legend: B batch · H,W pixels · F features · K classes · C,h,w channels and sides of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class PerceptualNetwork(Protocol):
    """A classifier: images (B, 3, H, W) float in [0, 1] → features (B, F) → logits (B, K), and its feature maps."""

    def features(self, images: Tensor) -> Tensor: ...

    def logits(self, features: Tensor) -> Tensor: ...

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature map (B, C, h, w) of each stage."""
        ...


class PerceptualDistance(Protocol):
    """A distance of images: images and targets (B, 3, H, W) float in [0, 1] → (B,)."""

    def distance(self, images: Tensor, targets: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class PerceptualTerm:
    """Distance of images in a frozen classifier's features, averaged over the batch; gradients reach `images` only.

    With layer "maps", a and b being the channel vectors at one position of two feature maps: ‖a/‖a‖ - b/‖b‖‖², averaged
    over positions, then over stages; this is LPIPS with equal weights. With "features" or "logits": the mean squared
    error of these vectors.
    """

    extractor: PerceptualNetwork
    layer: str  # "maps", "features" or "logits"
    weight: float

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the unweighted term, a scalar, of images and targets (B, 3, H, W)."""
        if self.layer == "maps":
            pairs = zip(self._maps(images), self._maps(targets.detach()), strict=True)
            return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()
        return F.mse_loss(self._vector(images), self._vector(targets).detach())

    def _maps(self, images: Tensor) -> list[Tensor]:
        return [F.normalize(x, dim=1) for x in self.extractor.maps(images)]  # (B, C, h, w) each

    def _vector(self, images: Tensor) -> Tensor:
        features = self.extractor.features(images)  # (B, F)
        return self.extractor.logits(features) if self.layer == "logits" else features  # (B, K) or (B, F)


@dataclass(frozen=True, kw_only=True)
class LPIPSTerm:
    """LPIPS distance of images, averaged over the batch; gradients reach `images` only."""

    network: PerceptualDistance
    weight: float

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the unweighted term, a scalar, of images and targets (B, 3, H, W)."""
        return self.network.distance(images, targets.detach()).mean()


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss:
    """Weighted sum of the pixel, quantizer and perceptual terms."""

    l1: float  # weight of the mean absolute error
    l2: float  # weight of the mean squared error
    quantizer: float  # weight of the quantizer's terms
    perceptual: Sequence[PerceptualTerm | LPIPSTerm]  # each with its weight

    def __call__(self, images: Tensor, targets: Tensor, quantizer: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return scalars: the loss `total` of reconstructions against targets (B, 3, H, W), and each unweighted term.

        Terms are returned unweighted so that training curves of runs with other weights can be compared.
        """
        terms = {"l1": F.l1_loss(images, targets), "l2": F.mse_loss(images, targets), **quantizer}
        total = self.l1 * terms["l1"] + self.l2 * terms["l2"]
        total = total + self.quantizer * sum(quantizer.values())
        for index, term in enumerate(self.perceptual):
            terms[f"perceptual_{index}"] = term(images, targets)
            total = total + term.weight * terms[f"perceptual_{index}"]
        return {"total": total, **terms}
