"""A small convolutional classifier: FID network, second FID network and perceptual network of the miniature studies.

It takes the place of Inception-v3 and ConvNeXt, whose weights cannot be shipped, and is trained by a stage of the
workflow on the study's own labels.

Legend: B batch · H,W pixels · C,h,w channels and sides of a feature map · F features · K classes.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from onetok.study.schema.base import Pixels, Positive
from onetok.study.schema.encoders import CLASSIFIER_GROUPS, ClassifierModel


class ClassifierConfig(ClassifierModel):
    """The network's configuration."""

    image_size: Pixels  # H = W
    classes: Positive  # K


class Classifier(nn.Module):
    """Images (B, 3, H, W) float32 in [0, 1] → features (B, F) → logits (B, K).

    Raises ValueError for an image size that cannot be halved once for each stage.
    """

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
        """Return the feature map (B, C, h, w) of each stage; each stage halves the sides."""
        x, maps = 2 * images - 1, []  # (B, 3, H, W)
        for stage in self.stages:
            x = stage(x)  # (B, C, h, w)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, F) of images (B, 3, H, W) in [0, 1], which FID compares."""
        x = self.maps(images)[-1].flatten(1)  # (B, C·h·w)
        return F.gelu(self.to_features(x))  # (B, F)

    def logits(self, features: Tensor) -> Tensor:
        """Return the class logits (B, K) of features (B, F), with dropout in training."""
        out: Tensor = self.to_logits(self.dropout(features))  # (B, K)
        return out

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images))  # (B, K)
