"""Params of encoders: the networks that look at images and texts for losses and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import DatasetName, Fraction, Positive, Sha256, Strict
from onetok.params.datasets import TrainingImages
from onetok.params.training import Training


class WeightsFile(Strict):
    """Published weights: a file on the Hub or at an address, pinned by its digest.

    Pins that are null stop the download; `onetok pin` prints what to write.
    """

    hub: str | None
    revision: str | None
    url: str | None
    file: str
    sha256: Sha256 | None


CLASSIFIER_GROUPS = 8  # of every GroupNorm


class ClassifierModel(Strict):
    channels: tuple[Positive, ...] = Field(strict=False)
    features: Positive
    dropout: Fraction


class ClassifierEncoder(Strict):
    """A small CNN trained on the study's labels."""

    kind: Literal["classifier"]
    dataset: DatasetName
    images: TrainingImages
    model: ClassifierModel
    label_smoothing: Fraction
    training: Training


class InceptionEncoder(Strict):
    """Inception-v3 as torch-fidelity ports it from TensorFlow: 2048 features, 1008 logits."""

    kind: Literal["inception"]
    weights: WeightsFile


class ConvNeXtEncoder(Strict):
    """ConvNeXt-S as torchvision publishes it: the perceptual network of the papers."""

    kind: Literal["convnext"]
    input_size: Positive
    weights: WeightsFile


class LPIPSEncoder(Strict):
    """LPIPS 0.1 on VGG16: a distance, so a perceptual network only."""

    kind: Literal["lpips"]
    backbone: WeightsFile = Field(description="VGG16 as torchvision publishes it")
    weights: WeightsFile = Field(description="the channel weights")


class CLIPModel(Strict):
    patch_size: Positive
    vision_width: Positive
    vision_layers: Positive
    vision_head_width: Positive
    context_length: Positive = Field(description="token ids of a caption, both ends included")
    text_width: Positive
    text_layers: Positive
    text_heads: Positive
    embedding: Positive = Field(description="width of the space that images and texts share")
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
    architecture: str = Field(description="as open_clip names it; OpenAI's weights need a quickgelu one")
    weights: WeightsFile


Encoder = Annotated[
    ClassifierEncoder | InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder | CLIPEncoder | OpenCLIPEncoder,
    Field(discriminator="kind"),
]
