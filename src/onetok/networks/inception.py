"""Inception-v3 as torch-fidelity ports it from TensorFlow: the features of FID, IS, precision and recall.

Legend: B batch · 2048 features · 1008 logits.
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
