"""Shapes that follow from params: of the tokens of an image, and of what a text encoder makes of a caption."""

from __future__ import annotations

from typing import Literal, NamedTuple


class TokenShape(NamedTuple):
    """The tokens of an image."""

    codebook_size: int | None  # None where they are continuous
    channels: int
    length: int  # tokens an image


class TextShape(NamedTuple):
    """What a text encoder makes of a caption."""

    length: int  # states
    width: int
    pooled_width: int

    def __str__(self) -> str:
        return f"{self.length} states of width {self.width}, {self.pooled_width} pooled"


# Which states of a text encoder: those that enter its last block, or those after its final LayerNorm.
TextLayer = Literal["penultimate", "final"]

RELEASED_TEXT = TextShape(77, 768, 768)  # of CLIP ViT-L/14-336, which every released system reads
