"""ConvNeXt-S (arXiv 2201.03545), whose ImageNet logits are the perceptual loss of TiTok (arXiv 2406.07550, section 4).

Legend: B batch · H,W pixels · S side of the network's input · C,h,w channels and sides of a feature map · 768 features
        · 1000 logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetok.study.schema.base import Pixels, Strict

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ConvNeXtConfig(Strict):
    """The network's configuration."""

    input_size: Pixels  # S; images are resized to S x S, bilinear with antialiasing


class ConvNeXt(nn.Module):
    """Images (B, 3, H, W) float in [0, 1] → features (B, 768) → logits (B, 1000)."""

    def __init__(self, config: ConvNeXtConfig) -> None:
        from torchvision.models import convnext_small  # takes a second to import, so only when it is needed

        super().__init__()
        self.config = config
        self.network = convnext_small(weights=None)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature map (B, C, h, w) of each of the four stages, for images (B, 3, H, W) in [0, 1]."""
        size = (self.config.input_size, self.config.input_size)
        x = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)  # (B, 3, S, S)
        x, maps = (x - self.mean) / self.std, []
        for index, layer in enumerate(self.network.features):
            x = layer(x)  # (B, C, h, w)
            if index % 2:  # even layers patchify or downsample, odd ones are the blocks of a stage
                maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Return the normalised, spatially averaged features (B, 768) of images (B, 3, H, W) in [0, 1]."""
        x = self.network.avgpool(self.maps(images)[-1])  # (B, 768, 1, 1)
        norm, flatten, _ = self.network.classifier
        out: Tensor = flatten(norm(x))  # (B, 768)
        return out

    def logits(self, features: Tensor) -> Tensor:
        """Return the ImageNet logits (B, 1000) of features (B, 768)."""
        out: Tensor = self.network.classifier[2](features)  # (B, 1000)
        return out
