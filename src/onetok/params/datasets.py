"""Params of datasets: where images come from, how they are split, and how a stored image becomes a tensor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from onetok.params.base import Caption, Count, Positive, Strict


class DigitsSource(Strict):
    """The 1,797 scanned digits that scikit-learn ships, upscaled to square RGB images."""

    kind: Literal["digits"]
    size: Positive
    filter: Literal["nearest", "bilinear", "bicubic"]
    caption: Caption | None = Field(description="{class} is zero … nine")


class ImageFolderSource(Strict):
    """Class sub-folders of images; a `.txt` beside an image is its caption. Bytes are kept as they are."""

    kind: Literal["imagefolder"]
    path: str
    caption: Caption | None = Field(description="of images without a `.txt` beside them")
    class_names: Literal["folders", "imagenet"] = Field(description="what {class} is in the caption")


class HoldOut(Strict):
    """Validation images drawn from each class of one pool, at random from the seed."""

    kind: Literal["hold-out"]
    per_class: Positive
    seed: Count


class SplitFolders(Strict):
    """The source has one sub-folder for each split, with the classes below."""

    kind: Literal["folders"]
    train: str
    val: str


class Dataset(Strict):
    source: DigitsSource | ImageFolderSource = Field(discriminator="kind")
    split: HoldOut | SplitFolders = Field(discriminator="kind")
    classes: Positive
    samples_per_shard: Positive


class Images(Strict):
    """How a stored image becomes a square tensor: shorter edge resized, then cropped."""

    shorter_edge: Positive
    size: Positive
    filter: Literal["nearest", "bilinear", "bicubic"]


class TrainingImages(Images):
    crop: Literal["center", "random"]
    flip: bool
    shift: Count = Field(description="random translation of up to so many pixels, edges repeated")
