"""Params of datasets: where images come from, how they are split, and how a stored image becomes a tensor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.params.base import Caption, Count, Fraction, Name, Pixels, Positive, Seed, Strict, StudyPath

SceneShape = Literal["circle", "square", "triangle"]
SceneColor = Literal["red", "green", "blue", "yellow", "purple", "cyan"]
Task = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]  # GenEval's
Relation = Literal["left of", "right of", "above", "below"]
ColoredShape = Annotated[tuple[SceneColor, SceneShape], Field(strict=False)]
RelatedShapes = Annotated[tuple[SceneShape, Relation, SceneShape], Field(strict=False)]


class DigitsSource(Strict):
    """The 1,797 scanned digits that scikit-learn ships, upscaled to square RGB images."""

    kind: Literal["digits"]
    size: Pixels
    filter: Literal["nearest", "bilinear", "bicubic"]
    caption: Caption | None = Field(description="{class} is zero … nine")


class ImageFolderSource(Strict):
    """Class sub-folders of images; a `.txt` beside an image is its caption. Bytes are kept as they are.

    Labels are the order of the sub-folders: of the numbers where all names are numbers, else of the characters.
    """

    kind: Literal["imagefolder"]
    path: StudyPath
    caption: Caption | None = Field(description="of images without a `.txt` beside them")
    class_names: Literal["folders", "imagenet", "imagenet-synonyms"] = Field(
        description='what {class} is in the caption; of ImageNet "tench", or "tench, Tinca tinca" with synonyms'
    )
    on_bad_sample: Literal["fail", "skip"] = Field(
        default="fail",  # changes no number: what is bad ends the conversion
        description="what to do about files that are no samples: end with an error, or leave them out and count them",
    )
    max_bad_share: Fraction | None = Field(
        default=None, description="where they are skipped: most of all samples that may be"
    )


class ScenesSource(Strict):
    """Generated pictures of flat shapes in a grid of 2 x 2 cells, with captions (onetok.data.scenes)."""

    kind: Literal["scenes"]
    seed: Seed
    size: Pixels = Field(description="of the square picture, pixels; even")
    colors: tuple[SceneColor, ...] = Field(strict=False, min_length=2)
    sides: tuple[Pixels, Pixels] = Field(strict=False, description="of a shape, pixels: least and most")
    jitter: Count = Field(description="most pixels between the middles of a shape and of its cell, each way")
    vividness: tuple[Fraction, Fraction] = Field(
        strict=False, description="brightness of colours in the dullest and in the most vivid scene"
    )
    held_out_colors: tuple[ColoredShape, ...] = Field(
        strict=False, description="[colour, shape]: in no training scene"
    )
    held_out_relations: tuple[RelatedShapes, ...] = Field(
        strict=False,
        description="[shape, relation, shape]: in no training caption, in these words or mirrored",
    )
    colored_positions: Fraction = Field(
        description="of the training captions that relate two shapes: name their colours too"
    )
    evaluation_share: Fraction = Field(
        description="of the requests of tasks that name two shapes: in no training caption"
    )


class HoldOut(Strict):
    """Validation images drawn from each class of one pool, at random from the seed."""

    kind: Literal["hold-out"]
    per_class: Positive
    seed: Seed


class SplitFolders(Strict):
    """The source has one sub-folder for each split, with the classes below."""

    kind: Literal["folders"]
    train: Name
    val: Name


class EvaluationOnly(Strict):
    """All images are validation images: there is no train split."""

    kind: Literal["evaluation"]


class SplitScenes(Strict):
    """So many scenes; the validation split ends with those that show what training never has."""

    kind: Literal["scenes"]
    train: Positive
    val: Positive = Field(description="without the held-out ones; the six tasks take turns")
    held_out: Count


class Dataset(Strict):
    source: DigitsSource | ImageFolderSource | ScenesSource = Field(discriminator="kind")
    split: HoldOut | SplitFolders | EvaluationOnly | SplitScenes = Field(discriminator="kind")
    classes: Positive
    samples_per_shard: Positive


class Images(Strict):
    """How a stored image becomes a square tensor: its shorter edge is resized, then it is cropped."""

    resize: Literal["torchvision", "adm"] = Field(
        description="torchvision: in one step, the longer edge truncated to whole pixels; adm: halved by means of"
        " 2 x 2 pixels while it is twice as large or larger, then the rest in one step, then the square in the"
        " centre, which is ADM's centre crop (arXiv 2105.05233)"
    )
    shorter_edge: Pixels
    size: Pixels
    filter: Literal["nearest", "bilinear", "bicubic"]

    def __str__(self) -> str:
        how = "as ADM does" if self.resize == "adm" else "as torchvision does"
        return f"{self.filter} to {self.shorter_edge} px {how}, centre {self.size} px"


class TrainingImages(Images):
    crop: Literal["center", "random"]
    flip: bool
    shift: Annotated[Count, Field(le=2**14)] = Field(
        description="random translation of up to so many pixels, edges repeated"
    )
