"""Images: from an encoded file to a square uint8 tensor (3, S, S), and to floats in [0, 1]."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from onetok.data.sources import RESAMPLING
from onetok.params import Images, TrainingImages

Pixels = NDArray[np.uint8]


def decode(content: bytes) -> Image.Image:
    """Decode an image file of any mode to RGB; transparency and EXIF rotation are ignored, as the papers do."""
    with Image.open(io.BytesIO(content)) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey levels, which convert() would clip to white
        levels = (np.asarray(image) / 257).round().clip(0, 255)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, images: Images) -> Image.Image:
    """Scale so that the shorter edge has the length that params ask for."""
    scale = images.shorter_edge / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image if size == image.size else image.resize(size, RESAMPLING[images.filter])


def prepare(content: bytes, images: Images) -> Pixels:
    """Return the centre crop of an image file: (3, S, S) uint8."""
    return crop_centre(decode(content), images)


def crop_centre(image: Image.Image, images: Images) -> Pixels:
    """Return the centre crop of an RGB image: (3, S, S) uint8."""
    return _crop(resize(image, images), images.size, 0.5, 0.5)


def five_crops(content: bytes, images: Images) -> list[Pixels]:
    """Return the four corner crops and the centre crop, each (3, S, S) uint8."""
    image = resize(decode(content), images)
    places = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)]
    return [_crop(image, images.size, x, y) for x, y in places]


def augment(content: bytes, images: TrainingImages, rng: np.random.Generator) -> Pixels:
    """Return a training view: (3, S, S) uint8, a function of the file and of `rng`."""
    image = resize(decode(content), images)
    x, y = rng.random(2) if images.crop == "random" else (0.5, 0.5)
    pixels = _crop(image, images.size, x, y)
    if images.shift:
        pixels = _shift(pixels, *rng.integers(-images.shift, images.shift, size=2, endpoint=True))
    if images.flip and rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels


def _crop(image: Image.Image, size: int, x: float, y: float) -> Pixels:
    """Cut a square; x and y in [0, 1] say where between the edges."""
    left, top = round((image.width - size) * x), round((image.height - size) * y)
    array = np.asarray(image.crop((left, top, left + size, top + size)))
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _shift(pixels: Pixels, dx: int, dy: int) -> Pixels:
    rows = np.clip(np.arange(pixels.shape[1]) - dy, 0, pixels.shape[1] - 1)
    columns = np.clip(np.arange(pixels.shape[2]) - dx, 0, pixels.shape[2] - 1)
    return np.ascontiguousarray(pixels[:, rows][:, :, columns])


def to_float(pixels: Tensor) -> Tensor:
    """uint8 [0, 255] → float32 [0, 1]."""
    return pixels.to(torch.float32) / 255


def to_uint8(images: Tensor) -> Tensor:
    """Float [0, 1] → uint8, clamped and rounded (truncating would darken every pixel by half a level)."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def encode_png(pixels: NDArray[Any]) -> bytes:
    """(3, H, W) uint8 → a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, format="PNG")
    return buffer.getvalue()
