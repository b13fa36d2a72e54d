"""Params of datasets: where images come from, how they are split, and how a stored image becomes a tensor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import (
    Caption,
    Count,
    Fraction,
    Name,
    NonNegativeFloat,
    Pixels,
    Positive,
    Seed,
    Strict,
    StudyPath,
)

SceneShape = Literal["circle", "square", "triangle"]
SceneColor = Literal["red", "green", "blue", "yellow", "purple", "cyan"]
Task = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]  # GenEval's
Relation = Literal["left of", "right of", "above", "below"]
ColoredShape = Annotated[tuple[SceneColor, SceneShape], Field(strict=False)]
RelatedShapes = Annotated[tuple[SceneShape, Relation, SceneShape], Field(strict=False)]


class DigitsSource(Strict):
    """The 1,797 scanned digits that scikit-learn ships, upscaled to square RGB images."""

    kind: Literal["digits"]
    size: Pixels = Field(description="side of the upscaled square picture, pixels")
    filter: Literal["nearest", "bilinear", "bicubic"] = Field(description="interpolation of the upscaling")
    caption: Caption | None = Field(
        description="caption of every image, {class} in it being zero … nine; null: no captions"
    )


class ImageFolderSource(Strict):
    """Class sub-folders of images; a `.txt` beside an image is its caption. Bytes are kept as they are.

    Labels are the order of the sub-folders: of the numbers where all names are numbers, else of the characters.
    """

    kind: Literal["imagefolder"]
    path: StudyPath = Field(
        description="folder of the class sub-folders, or of the splits' folders; absolute, or relative to"
        " the study"
    )
    caption: Caption | None = Field(
        description="caption of images without a `.txt` beside them, {class} in it being the name of the"
        " class; null: these images have none"
    )
    class_names: Literal["folders", "imagenet", "imagenet-synonyms"] = Field(
        description="what {class} is in the caption: the sub-folder's name; or, of ImageNet's classes, the"
        ' first name ("tench") or all of them ("tench, Tinca tinca")'
    )
    on_bad_sample: Literal["fail", "skip"] = Field(
        default="fail",  # changes no number: what is bad ends the conversion
        description="what to do about files that are no samples: end with an error, or leave them out and"
        " count them",
    )
    max_bad_share: Fraction | None = Field(
        default=None,
        description="with on_bad_sample skip: the largest share of all samples that may be skipped; null"
        " with fail",
    )
    aesthetic: NonNegativeFloat | None = Field(
        default=None,  # left out, it is not in receipts either: those of older datasets stay what they are
        exclude_if=lambda score: score is None,
        description="aesthetic score of images without a `.json` beside them; null or left out: these have no"
        " record, which MaskGen needs",
    )


class ScenesSource(Strict):
    """Generated pictures of flat shapes in a grid of 2 x 2 cells, with captions (onetok.data.scenes)."""

    kind: Literal["scenes"]
    seed: Seed = Field(
        description="seed of every scene's caption, shapes, colours and places, and of what is kept for"
        " evaluation"
    )
    size: Pixels = Field(description="side of the square picture, pixels; even")
    colors: tuple[SceneColor, ...] = Field(
        strict=False, min_length=2, description="colours that shapes have; a class is a shape in one of them"
    )
    sides: tuple[Pixels, Pixels] = Field(
        strict=False, description="[least, most] side of a shape, pixels; drawn for each"
    )
    jitter: Count = Field(description="most pixels between the middles of a shape and of its cell, each way")
    vividness: tuple[Fraction, Fraction] = Field(
        strict=False,
        description="brightness of colours in the dullest and in the most vivid scene, which have the"
        " lowest and the highest aesthetic score",
    )
    held_out_colors: tuple[ColoredShape, ...] = Field(
        strict=False, description="pairs [colour, shape] that are in no training scene"
    )
    held_out_relations: tuple[RelatedShapes, ...] = Field(
        strict=False,
        description="triples [shape, relation, shape] that are in no training caption, in these words or"
        " mirrored",
    )
    colored_positions: Fraction = Field(
        description="of the training captions that relate two shapes, the share that names their colours too"
    )
    evaluation_share: Fraction = Field(
        description="of the requests of tasks that name two shapes, the share that is kept for evaluation:"
        " in no training caption"
    )


class HoldOut(Strict):
    """Validation images drawn from each class of one pool, at random from the seed."""

    kind: Literal["hold-out"]
    per_class: Positive = Field(description="validation images of each class; the others are for training")
    seed: Seed = Field(description="seed of the draw")


class SplitFolders(Strict):
    """The source has one sub-folder for each split, with the classes below."""

    kind: Literal["folders"]
    train: Name = Field(description="name of the sub-folder with the training images")
    val: Name = Field(description="name of the sub-folder with the validation images")


class EvaluationOnly(Strict):
    """All images are validation images: there is no train split."""

    kind: Literal["evaluation"]


class SplitScenes(Strict):
    """So many scenes; the validation split ends with those that show what training never has."""

    kind: Literal["scenes"]
    train: Positive = Field(description="number of training scenes; the six tasks take turns")
    val: Positive = Field(
        description="number of validation scenes without the held-out ones; the six tasks take turns"
    )
    held_out: Count = Field(description="number of validation scenes of held-out colours and relations")


class Dataset(Strict):
    """Images with their classes, and captions where there are any, as shards of a train and a validation split."""

    source: DigitsSource | ImageFolderSource | ScenesSource = Field(
        discriminator="kind", description="where the images and their captions come from"
    )
    split: HoldOut | SplitFolders | EvaluationOnly | SplitScenes = Field(
        discriminator="kind", description="which images are for training and which for validation"
    )
    classes: Positive = Field(description="number of classes; a source with another number is an error")
    samples_per_shard: Positive = Field(
        description="samples of a shard, which is one tar file; the last may have fewer"
    )


class Images(Strict):
    """How a stored image becomes a square tensor: its shorter edge is resized, then it is cropped."""

    resize: Literal["torchvision", "adm"] = Field(
        description="how it is resized. torchvision: in one step, the longer edge truncated to whole"
        " pixels; adm: halved by means of 2 x 2 pixels while it is twice as large or larger, then the rest"
        " in one step, then the square in the centre, which is ADM's centre crop (arXiv 2105.05233)"
    )
    shorter_edge: Pixels = Field(
        description="length to which the shorter edge is resized, pixels; at least `size`"
    )
    size: Pixels = Field(description="side of the square crop, pixels")
    filter: Literal["nearest", "bilinear", "bicubic"] = Field(description="interpolation of the resizing")

    def __str__(self) -> str:
        how = "as ADM does" if self.resize == "adm" else "as torchvision does"
        return f"{self.filter} to {self.shorter_edge} px {how}, centre {self.size} px"


class TrainingImages(Images):
    """How a stored image becomes a training view: resized and cropped, then augmented at random."""

    crop: Literal["center", "random"] = Field(
        description="where the square is cut from the resized image: in its centre, or anywhere at random"
    )
    flip: bool = Field(description="whether half of the views, drawn at random, are mirrored left to right")
    shift: Annotated[Count, Field(le=2**14)] = Field(
        description="largest random translation of the crop, pixels, each way; its edges are repeated. 0:"
        " none"
    )
