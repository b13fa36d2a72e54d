"""Inception-v3 as torch-fidelity ports it from TensorFlow: the features of FID, IS, precision and recall.

Legend: B batch · 2048 features · 2023 spatial features · 1008 logits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetok.data.images import to_uint8
from onetok.study.schema.base import Strict

SPATIAL_CHANNELS = 7


class InceptionConfig(Strict):
    """The network's configuration, which has no settings: every published FID uses this one network."""


class Inception(nn.Module):
    """Images (B, 3, H, W) float in [0, 1] → features (B, 2048) → logits (B, 1008).

    The network rounds images to 8 bits and resizes them to 299 px as the TensorFlow graph does. The logits lack the
    last layer's bias, as in the published Inception Score.
    """

    def __init__(self, config: InceptionConfig) -> None:
        super().__init__()
        self.config = config
        self.network: Any = _empty_network()

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, 2048) of images (B, 3, H, W) in [0, 1], which FID compares."""
        (features,) = self.network(to_uint8(images))  # (B, 2048)
        assert isinstance(features, Tensor)
        return features

    def features_and_spatial(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled features (B, 2048) of images, and the spatial features (B, 2023), which sFID compares.

        The latter are the first 7 channels of the 1x1 convolution of TensorFlow's `mixed_6`, at 17 x 17 places, in the
        order of the ADM evaluator: row, column, channel.
        """
        seen: list[Tensor] = []
        hook = self.network.Mixed_6d.branch1x1.register_forward_hook(lambda *args: seen.append(args[2]))
        try:
            features = self.features(images)  # (B, 2048)
        finally:
            hook.remove()
        channels = seen[0][:, :SPATIAL_CHANNELS]  # (B, 7, 17, 17)
        return features, channels.permute(0, 2, 3, 1).flatten(1)  # (B, 2023)

    def logits(self, features: Tensor) -> Tensor:
        """Return the class logits (B, 1008) of features (B, 2048), which the Inception Score uses."""
        logits: Tensor = features @ self.network.fc.weight.T  # (B, 1008)
        return logits


def _empty_network() -> nn.Module:
    """Return the network without weights. Its constructor requires a file of weights, so it gets an empty one."""
    # takes a second to import, so only when it is needed
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class EmptyNetwork(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.pth"
        torch.save({}, path)
        return EmptyNetwork("inception-v3", ["2048"], feature_extractor_weights_path=str(path))
