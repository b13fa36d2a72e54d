"""A small convolutional classifier: the miniature's feature extractor, perceptual network and judge.

It stands where the papers use Inception-v3 and ConvNeXt, which cannot be shipped: trained in the DAG on the study's
own labels. Legend: B batch · H,W pixels · F features · K classes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from onetok.params import CLASSIFIER_GROUPS


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierConfig:
    image_size: int  # H = W
    channels: tuple[int, ...]  # one stage a number, each halves the side
    features: int  # F, width of the penultimate layer
    classes: int  # K
    dropout: float  # on the features, in training


class Classifier(nn.Module):
    """Images (B, 3, H, W) float32 in [0, 1] → features (B, F) → logits (B, K)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        if config.image_size % 2 ** len(config.channels):
            raise ValueError(f"image size {config.image_size} cannot be halved {len(config.channels)} times")
        self.config = config
        widths = (3, *config.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(CLASSIFIER_GROUPS, after),
                nn.GELU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.GroupNorm(CLASSIFIER_GROUPS, after),
                nn.GELU(),
            )
            for before, after in itertools.pairwise(widths)
        )
        side = config.image_size // 2 ** len(config.channels)
        self.to_features = nn.Linear(config.channels[-1] * side**2, config.features)
        self.dropout = nn.Dropout(config.dropout)
        self.to_logits = nn.Linear(config.features, config.classes)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return what each stage gives: (B, C, h, w), the side halved every time."""
        x, maps = 2 * images - 1, []  # (B, 3, H, W)
        for stage in self.stages:
            x = stage(x)  # (B, C, h, w)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        x = self.maps(images)[-1].flatten(1)  # (B, C·h·w)
        return F.gelu(self.to_features(x))  # (B, F)

    def logits(self, features: Tensor) -> Tensor:
        out: Tensor = self.to_logits(self.dropout(features))  # (B, K)
        return out

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images))
