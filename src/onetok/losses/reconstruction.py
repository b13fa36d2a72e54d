"""Pixel and perceptual terms of tokenizer training. Images are (B, 3, H, W) floats near [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onetok.metrics.features import PerceptualNetwork
from onetok.models.lpips import LPIPS


@dataclass(frozen=True, kw_only=True)
class PerceptualTerm:
    """Distance between what a frozen network makes of two images.

    Layer "maps": at every stage, mean over places of ||a/|a| - b/|b|||² over channels, averaged over stages
    (as LPIPS, with all its weights equal). "features" and "logits": mean squared error.
    """

    extractor: PerceptualNetwork
    layer: str  # "maps", "features" or "logits"
    weight: float

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.layer == "maps":
            pairs = zip(self._maps(images), self._maps(targets.detach()), strict=True)
            return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()
        return F.mse_loss(self._vector(images), self._vector(targets).detach())

    def _maps(self, images: Tensor) -> list[Tensor]:
        return [F.normalize(x, dim=1) for x in self.extractor.maps(images)]

    def _vector(self, images: Tensor) -> Tensor:
        features = self.extractor.features(images)
        return self.extractor.logits(features) if self.layer == "logits" else features


@dataclass(frozen=True, kw_only=True)
class LPIPSTerm:
    """Mean LPIPS distance of a batch."""

    network: LPIPS
    weight: float

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.network.distance(images, targets.detach()).mean()


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss:
    """Weighted sum of all terms; each term is kept unweighted, so that curves compare across weights."""

    l1: float
    l2: float
    quantizer: float
    perceptual: Sequence[PerceptualTerm | LPIPSTerm]

    def __call__(self, images: Tensor, targets: Tensor, quantizer: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = {"l1": F.l1_loss(images, targets), "l2": F.mse_loss(images, targets), **quantizer}
        total = self.l1 * terms["l1"] + self.l2 * terms["l2"]
        total = total + self.quantizer * sum(quantizer.values())
        for index, term in enumerate(self.perceptual):
            terms[f"perceptual_{index}"] = term(images, targets)
            total = total + term.weight * terms[f"perceptual_{index}"]
        return {"total": total, **terms}
