"""Contact sheets: many images as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onetok import durable

GAP = 2  # pixels between the images of a sheet
LEGIBLE = 64  # smaller images are enlarged, each pixel to a square


def grid(pixels: NDArray[np.uint8], columns: int) -> Image.Image:
    """Lay out images (M, 3, H, W) in rows of `columns`."""
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
    with durable.replacing(path) as temporary:
        picture.save(temporary)
