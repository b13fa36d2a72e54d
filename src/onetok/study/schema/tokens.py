"""Params of token caches: what a split of a dataset is, encoded once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onetok.study.schema.base import DatasetName, EncoderName, Positive, Strict, TokenizerName
from onetok.study.schema.datasets import Images


class CachedCaptions(Strict):
    """The captions that are kept beside tokens."""

    augmented_prefixes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        strict=False,
        description='prefixes to be removed from augmented captions, such as "The image shows "; of several'
        " the first that matches. What is left begins with a capital letter",
    )


class CachedText(CachedCaptions):
    """Captions as they are, for an encoder to read at every training step."""

    kind: Literal["text"]


class CachedStates(CachedCaptions):
    """What a text encoder makes of the captions, float16: more room, and no encoder in training."""

    kind: Literal["states"]
    text: EncoderName = Field(description="CLIP whose text tower encodes the captions")


Captions = Annotated[CachedText | CachedStates, Field(discriminator="kind")]


class Tokens(Strict):
    """A token cache: every view of every image of a split, encoded once."""

    tokenizer: TokenizerName = Field(description="tokenizer that encodes the images")
    dataset: DatasetName = Field(description="dataset that the images are from")
    split: Literal["train", "val"] = Field(description="split of that dataset that is encoded")
    images: Images = Field(description="how a stored image is resized, and the size of the crops")
    crops: Literal["center", "five"] = Field(
        description="crops of each image. five: the corners and the centre; with `flip`, also those of the"
        " mirror image. RAR's ten crops are five of 256 px with flip, of images that `resize: adm` has cut"
        " to a square of 281"
    )
    flip: bool = Field(description="whether the views of the mirror image are encoded too")
    batch: Positive = Field(description="images, with all their views, that are encoded in one call")
    captions: Captions | None = Field(
        description="form in which captions are kept beside the tokens, with aesthetic scores, for"
        " generators that read them; null: not at all"
    )
