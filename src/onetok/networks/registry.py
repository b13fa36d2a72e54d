"""The auxiliary networks by the kind that config.json names, and builders of untrained networks from params."""

from __future__ import annotations

from pydantic import BaseModel
from torch import nn

from onetok.data.captions import VOCABULARY
from onetok.networks.classifier import Classifier, ClassifierConfig
from onetok.networks.clip import CLIP, CLIPConfig
from onetok.networks.convnext import ConvNeXt, ConvNeXtConfig
from onetok.networks.inception import Inception, InceptionConfig
from onetok.networks.lpips import LPIPS, LPIPSConfig
from onetok.networks.open_clip import clip_config
from onetok.study.schema.encoders import (
    ClassifierEncoder,
    CLIPEncoder,
    ConvNeXtEncoder,
    InceptionEncoder,
    OpenCLIPEncoder,
)

NETWORKS: dict[str, tuple[type[nn.Module], type[BaseModel]]] = {
    "classifier": (Classifier, ClassifierConfig),
    "clip": (CLIP, CLIPConfig),
    "convnext": (ConvNeXt, ConvNeXtConfig),
    "inception": (Inception, InceptionConfig),
    "lpips": (LPIPS, LPIPSConfig),
}


def build_classifier(entry: ClassifierEncoder, classes: int) -> Classifier:
    """Return the untrained classifier of an encoder's params, with this number of classes."""
    return Classifier(ClassifierConfig.of(entry.model, image_size=entry.images.size, classes=classes))


def build_clip(entry: CLIPEncoder) -> CLIP:
    """Return the untrained CLIP of an encoder's params."""
    return CLIP(CLIPConfig.of(entry.model, image_size=entry.images.size, vocab_size=VOCABULARY))


def build_released(
    entry: InceptionEncoder | ConvNeXtEncoder | OpenCLIPEncoder,
) -> Inception | ConvNeXt | CLIP:
    """Return the network of a released encoder; its released weights are still to be loaded into `.network`."""
    if isinstance(entry, OpenCLIPEncoder):
        return CLIP(clip_config(entry.architecture))
    if isinstance(entry, ConvNeXtEncoder):
        return ConvNeXt(ConvNeXtConfig(input_size=entry.input_size))
    return Inception(InceptionConfig())
