"""Params of encoders: the networks that look at images and texts for losses and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import BelowOne, DatasetName, Depth, Name, Pixels, Sha256, Strict, Width
from onetok.params.datasets import TrainingImages
from onetok.params.training import Training


class WeightsFile(Strict):
    """Published weights: a file on the Hub or at an address, pinned by its digest.

    Pins that are null stop the download; `onetok pin` prints what to write.
    """

    hub: str | None
    revision: str | None
    url: str | None
    file: Name
    sha256: Sha256 | None


CLASSIFIER_GROUPS = 8  # of every GroupNorm


class ClassifierModel(Strict):
    channels: tuple[Width, ...] = Field(
        strict=False, min_length=1, max_length=14, description="of each stage, which halves the side"
    )
    features: Width
    dropout: BelowOne


class ClassifierEncoder(Strict):
    """A small CNN trained on the study's labels."""

    kind: Literal["classifier"]
    dataset: DatasetName
    images: TrainingImages
    model: ClassifierModel
    label_smoothing: BelowOne
    training: Training


class InceptionEncoder(Strict):
    """Inception-v3 as torch-fidelity ports it from TensorFlow: 2048 features, 1008 logits."""

    kind: Literal["inception"]
    weights: WeightsFile


class ConvNeXtEncoder(Strict):
    """ConvNeXt-S as torchvision publishes it: the perceptual network of the papers."""

    kind: Literal["convnext"]
    input_size: Pixels
    weights: WeightsFile


class LPIPSEncoder(Strict):
    """LPIPS 0.1 on VGG16: a distance, so a perceptual network only."""

    kind: Literal["lpips"]
    backbone: WeightsFile = Field(description="VGG16 as torchvision publishes it")
    weights: WeightsFile = Field(description="the channel weights")


class CLIPModel(Strict):
    patch_size: Pixels
    vision_width: Width
    vision_layers: Depth
    vision_head_width: Width
    context_length: Width = Field(description="token ids of a caption, both ends included")
    text_width: Width
    text_layers: Depth
    text_heads: Width
    embedding: Width = Field(description="width of the space that images and texts share")
    quick_gelu: bool


class CLIPEncoder(Strict):
    """A small CLIP trained on the study's captions."""

    kind: Literal["clip"]
    dataset: DatasetName
    images: TrainingImages
    model: CLIPModel
    training: Training


class OpenCLIPEncoder(Strict):
    """A CLIP as open_clip publishes it."""

    kind: Literal["open-clip"]
    architecture: Name = Field(description="as open_clip names it; OpenAI's weights need a quickgelu one")
    weights: WeightsFile


Encoder = Annotated[
    ClassifierEncoder | InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder | CLIPEncoder | OpenCLIPEncoder,
    Field(discriminator="kind"),
]
