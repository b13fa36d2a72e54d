"""Contact sheets: many images in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onetok import durable

GAP = 2  # pixels between the images of a sheet
LEGIBLE = 64  # the longer side in pixels below which images are enlarged by a whole factor


def grid(pixels: NDArray[np.uint8], columns: int) -> Image.Image:
    """Return one picture of images (M, 3, H, W) uint8 in rows of `columns`, with white gaps."""
    count, _, height, width = pixels.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, dtype=np.uint8)
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        top, left = row * (height + GAP) + GAP, column * (width + GAP) + GAP
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet)
    scale = -(-LEGIBLE // max(height, width)) if max(height, width) < LEGIBLE else 1
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture to a file that is complete or absent."""
    with durable.replacing(path) as temporary:
        picture.save(temporary)
