"""Params of encoders: the networks that look at images and texts for losses and metrics."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from onetok.study.schema.base import (
    BelowOne,
    Commit,
    DatasetName,
    Depth,
    Name,
    Pixels,
    Repository,
    Sha256,
    Strict,
    Width,
)
from onetok.study.schema.datasets import TrainingImages
from onetok.study.schema.training import Training


def _plain_address(url: str) -> str:
    """Refuse an address that holds a secret: params are copied to receipts, logs and model cards."""
    parts = urlsplit(url)
    if any(letter.isspace() for letter in url) or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http or https address; for a file of this machine url is null")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must hold no user or password; write them to ~/.netrc")
    if parts.query or parts.fragment:
        text = "an address must hold no query, which may be a secret"
        raise ValueError(f"{text}; download the file yourself, then url is null and file its path")
    return url


class WeightsFile(Strict):
    """Published weights: a file on the Hub, at an address, or of this machine, pinned by its digest.

    Pins of a file on the Hub that are null here are those of params/pins.yaml (onetok.study.pins). Pins that are null
    there, too, stop the download; `onetok pin` looks them up.
    """

    hub: Repository | None = Field(
        description="repository on the Hub that holds the file; null: it is not on the Hub"
    )
    revision: Commit | None = Field(
        description="commit of that repository; null: that of params/pins.yaml, or there is no repository"
    )
    url: Annotated[str, AfterValidator(_plain_address)] | None = Field(
        description="http or https address of the file, without a password or a query; null: it has none"
    )
    file: Name = Field(
        description="path in the repository; with a url, name in torch's cache; without both, path of the"
        " file"
    )
    sha256: Sha256 | None = Field(
        description="SHA-256 digest that the file must have; null: that of params/pins.yaml"
    )

    @field_validator("url")
    @classmethod
    def _one_place(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and info.data.get("hub") is not None:
            raise ValueError("expected hub or url, not both")
        return url

    @field_validator("file")
    @classmethod
    def _below(cls, file: str, info: ValidationInfo) -> str:
        """Keep what is downloaded below the cache."""
        path = PurePosixPath(file)
        downloaded = any(info.data.get(key) is not None for key in ("hub", "url"))
        if downloaded and (path.is_absolute() or not path.parts or ".." in path.parts):
            raise ValueError("expected a relative path without '..' for a file that is downloaded")
        return file


CLASSIFIER_GROUPS = 8  # of every GroupNorm


class ClassifierModel(Strict):
    """A convolutional classifier: stages of two convolutions, then two linear layers."""

    channels: tuple[Width, ...] = Field(
        strict=False, min_length=1, max_length=14, description="channels of each stage, which halves the side"
    )
    features: Width = Field(
        description="width of the layer before the logits, whose outputs are the features"
    )
    dropout: BelowOne = Field(description="dropout of the features in training")


class ClassifierEncoder(Strict):
    """A small CNN trained on the study's labels."""

    kind: Literal["classifier"]
    dataset: DatasetName = Field(description="dataset on whose images and classes it is trained")
    images: TrainingImages = Field(description="how a stored image becomes what it is trained on")
    model: ClassifierModel = Field(description="sizes of the network")
    label_smoothing: BelowOne = Field(
        description="label smoothing of the cross-entropy: share of a target that is spread evenly over all"
        " classes"
    )
    training: Training = Field(description="its training run")


class InceptionEncoder(Strict):
    """Inception-v3 as torch-fidelity ports it from TensorFlow: 2048 features, 1008 logits."""

    kind: Literal["inception"]
    weights: WeightsFile = Field(description="the weights as torch-fidelity publishes them")


class ConvNeXtEncoder(Strict):
    """ConvNeXt-S as torchvision publishes it: the perceptual network of the papers."""

    kind: Literal["convnext"]
    input_size: Pixels = Field(description="side to which images are resized before the network, pixels")
    weights: WeightsFile = Field(description="the weights as torchvision publishes them")


class LPIPSEncoder(Strict):
    """LPIPS 0.1 on VGG16: a distance, so a perceptual network only."""

    kind: Literal["lpips"]
    backbone: WeightsFile = Field(description="VGG16 as torchvision publishes it")
    weights: WeightsFile = Field(description="LPIPS's weights of VGG16's channels")


class CLIPModel(Strict):
    """The two towers of a CLIP: a ViT for images, a causal transformer for texts."""

    patch_size: Pixels = Field(description="side of a patch of the image tower, pixels")
    vision_width: Width = Field(description="width of the image tower")
    vision_layers: Depth = Field(description="transformer blocks of the image tower")
    vision_head_width: Width = Field(description="width of an attention head of the image tower")
    context_length: Width = Field(
        description="token ids of a caption, start and end of text included; longer captions are cut off"
    )
    text_width: Width = Field(description="width of the text tower, and so of the states that systems read")
    text_layers: Depth = Field(description="transformer blocks of the text tower")
    text_heads: Width = Field(description="attention heads of the text tower")
    embedding: Width = Field(
        description="width of the space that images and texts share, and of the pooled text state"
    )
    quick_gelu: bool = Field(
        description="whether activations are QuickGELU, x·sigmoid(1.702 x), as OpenAI's; else GELU"
    )


class CLIPEncoder(Strict):
    """A small CLIP trained on the study's captions."""

    kind: Literal["clip"]
    dataset: DatasetName = Field(description="dataset on whose images and captions it is trained")
    images: TrainingImages = Field(description="how a stored image becomes what it is trained on")
    model: CLIPModel = Field(description="sizes of the two towers")
    training: Training = Field(description="its training run")


class OpenCLIPEncoder(Strict):
    """A CLIP as open_clip publishes it."""

    kind: Literal["open-clip"]
    architecture: Name = Field(
        description="name of the architecture in open_clip; OpenAI's weights need a quickgelu one"
    )
    weights: WeightsFile = Field(description="the weights of both towers in open_clip's layout")


Encoder = Annotated[
    ClassifierEncoder | InceptionEncoder | ConvNeXtEncoder | LPIPSEncoder | CLIPEncoder | OpenCLIPEncoder,
    Field(discriminator="kind"),
]
