"""LPIPS with VGG16 (arXiv 1801.03924): the distance of two images as people see it.

Unit-length VGG16 features of both images are compared at five depths; learned weights say how much each
channel counts. torch-fidelity's module of the same network downloads two files in its constructor, so this
page rebuilds it; a test holds both to the same values.

Legend: B batch · H,W pixels · C channels of a depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DEPTHS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}  # index of a ReLU among VGG16's layers → C
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True, kw_only=True, slots=True)
class LPIPSConfig:
    """Nothing can be chosen: version 0.1 on VGG16."""


class LPIPS(nn.Module):
    """Pairs of images (B, 3, H, W) float in [0, 1] → distances (B,)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: LPIPSConfig) -> None:
        from torchvision.models.vgg import (  # takes a second to import: only where it is built
            cfgs,
            make_layers,
        )

        super().__init__()
        self.config = config
        self.network = make_layers(cfgs["D"], batch_norm=False)[: max(DEPTHS) + 1]
        self.weights = nn.ParameterList(torch.zeros(1, channels, 1, 1) for channels in DEPTHS.values())
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the unit-length features of each depth: (B, C, h, w) float32."""
        x, maps = (2 * images - 1 - self.shift) / self.scale, []
        for index, layer in enumerate(self.network):
            x = layer(x)
            if index in DEPTHS:
                maps.append(_unit_length(x.float()))
        return maps

    def distance(self, images: Tensor, targets: Tensor) -> Tensor:
        pairs = zip(self.weights, self.maps(images), self.maps(targets), strict=True)
        parts = [
            (weight * (a - b).square()).sum(dim=1).mean(dim=(1, 2)) for weight, a, b in pairs
        ]  # 5 x (B,)
        return torch.stack(parts).sum(dim=0)  # (B,)


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def published_state(backbone: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's VGG16, less its classifier, and the published channel weights in our layout."""
    features = {name: tensor for name, tensor in backbone.items() if not name.startswith("classifier.")}
    return {
        **{name.replace("features.", "network.", 1): tensor for name, tensor in features.items()},
        **{
            name.replace("lin", "weights.", 1).removesuffix(".model.1.weight"): t
            for name, t in weights.items()
        },
    }
