"""Params of encoders: the networks that look at images and texts for losses and metrics."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from onetok.params.base import (
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
from onetok.params.datasets import TrainingImages
from onetok.params.training import Training


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

    Pins that are null stop the download; `onetok pin` prints what to write.
    """

    hub: Repository | None
    revision: Commit | None
    url: Annotated[str, AfterValidator(_plain_address)] | None
    file: Name = Field(
        description="path in the repository; with a url, name in torch's cache; without both, path of the file"
    )
    sha256: Sha256 | None

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
