"""Inception-v3 as torch-fidelity ports it from TensorFlow: the extractor behind FID, IS, precision and recall.

Legend: B batch · 2048 features · 1008 logits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onetok.data.images import to_uint8


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionConfig:
    """Nothing can be chosen: every published FID uses this one network."""


class Inception(nn.Module):
    """Images (B, 3, H, W) float in [0, 1] → features (B, 2048) → logits (B, 1008), without the last bias.

    Images are rounded to 8 bits and resized to 299 px inside, as the TensorFlow graph does.
    """

    def __init__(self, config: InceptionConfig) -> None:
        super().__init__()
        self.config = config
        self.network: Any = _empty_network()

    def features(self, images: Tensor) -> Tensor:
        (features,) = self.network(to_uint8(images))  # (B, 2048)
        assert isinstance(features, Tensor)
        return features

    def logits(self, features: Tensor) -> Tensor:
        logits: Tensor = features @ self.network.fc.weight.T  # (B, 1008)
        return logits


def _empty_network() -> nn.Module:
    """Return the network without weights. Its constructor insists on a file, so it gets an empty one."""
    # takes a second to import: only where it is built
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class EmptyNetwork(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.pth"
        torch.save({}, path)
        return EmptyNetwork("inception-v3", ["2048"], feature_extractor_weights_path=str(path))
