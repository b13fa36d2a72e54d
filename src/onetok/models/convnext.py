"""ConvNeXt-S (arXiv 2201.03545) as a perceptual network: the distance of its ImageNet logits (TiTok, section 4).

Legend: B batch · H,W pixels · 768 features · 1000 logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNeXtConfig:
    input_size: int  # images are resized to this side, bilinear with antialiasing


class ConvNeXt(nn.Module):
    """Images (B, 3, H, W) float in [0, 1] → features (B, 768) → logits (B, 1000)."""

    def __init__(self, config: ConvNeXtConfig) -> None:
        from torchvision.models import convnext_small  # takes a second to import: only where it is built

        super().__init__()
        self.config = config
        self.network = convnext_small(weights=None)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return what each of the four stages gives: (B, C, h, w)."""
        size = (self.config.input_size, self.config.input_size)
        x = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        x, maps = (x - self.mean) / self.std, []
        for index, layer in enumerate(self.network.features):
            x = layer(x)
            if index % 2:  # patchify or downsample, then the stage's blocks
                maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        x = self.network.avgpool(self.maps(images)[-1])  # (B, 768, 1, 1)
        norm, flatten, _ = self.network.classifier
        out: Tensor = flatten(norm(x))  # (B, 768)
        return out

    def logits(self, features: Tensor) -> Tensor:
        out: Tensor = self.network.classifier[2](features)  # (B, 1000)
        return out
