"""LPIPS with VGG16 (arXiv 1801.03924): a distance of two images that agrees with human judgements of similarity.

VGG16 features of both images, normalised to unit length over channels, are compared at five depths; learned weights say
how much each channel counts. torch-fidelity has the same network, but downloads two files in its constructor; a test
checks that this module gives the same values.

Legend: B batch · H,W pixels · C,h,w channels and sides of a feature map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onetok.study.schema.base import Strict

DEPTHS = {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}  # index of a ReLU among VGG16's layers → C
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of inputs in [-1, 1], by colour channel


class LPIPSConfig(Strict):
    """The network's configuration, which has no settings: LPIPS version 0.1 on VGG16."""


class LPIPS(nn.Module):
    """Pairs of images (B, 3, H, W) float in [0, 1] → distances (B,)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: LPIPSConfig) -> None:
        # takes a second to import, so only when it is needed
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        self.config = config
        self.network = make_layers(cfgs["D"], batch_norm=False)[: max(DEPTHS) + 1]
        self.weights = nn.ParameterList(torch.zeros(1, channels, 1, 1) for channels in DEPTHS.values())
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the features of each depth, normalised over channels, of images in [0, 1]: (B, C, h, w) float32."""
        x, maps = (2 * images - 1 - self.shift) / self.scale, []  # (B, 3, H, W)
        for index, layer in enumerate(self.network):
            x = layer(x)  # (B, C, h, w)
            if index in DEPTHS:
                maps.append(_unit_length(x.float()))
        return maps

    def distance(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distances (B,) of images and targets (B, 3, H, W) in [0, 1]; 0 for equal images."""
        triples = zip(self.weights, self.maps(images), self.maps(targets), strict=True)
        parts = [(weight * (a - b).square()).sum(dim=1).mean(dim=(1, 2)) for weight, a, b in triples]
        return torch.stack(parts).sum(dim=0)  # (5, B) → (B,)


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def published_state(backbone: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of LPIPS from torchvision's VGG16 weights and the published channel weights.

    The classifier of VGG16 is left out.
    """
    features = {name: tensor for name, tensor in backbone.items() if not name.startswith("classifier.")}
    return {
        **{name.replace("features.", "network.", 1): tensor for name, tensor in features.items()},
        **{
            name.replace("lin", "weights.", 1).removesuffix(".model.1.weight"): t
            for name, t in weights.items()
        },
    }
