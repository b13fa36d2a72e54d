"""Images: from an encoded file to a square uint8 tensor (3, S, S), and to floats in [0, 1]."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
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
    """Scale an RGB image so that its shorter edge has the length that params ask for, in the way that they ask for.

    "adm" cuts the square in the centre too: what is cropped afterwards lies in it.
    """
    if images.resize == "adm":
        return _adm_centre_crop(image, images.shorter_edge, RESAMPLING[images.filter])
    edge, shorter, longer = images.shorter_edge, min(image.size), max(image.size)
    longer = int(edge * longer / shorter)  # torchvision truncates
    size = (edge, longer) if image.width <= image.height else (longer, edge)
    return image if size == image.size else image.resize(size, RESAMPLING[images.filter])


def _adm_centre_crop(image: Image.Image, edge: int, resampling: Image.Resampling) -> Image.Image:
    while min(image.size) >= 2 * edge:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = edge / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), resampling)  # ADM rounds
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.crop((left, top, left + edge, top + edge))


def prepare(content: bytes, images: Images) -> Pixels:
    """Return the centre crop of an image file: (3, S, S) uint8."""
    return crop_centre(decode(content), images)


def crop_centre(image: Image.Image, images: Images) -> Pixels:
    """Return the centre crop of an RGB image: (3, S, S) uint8."""
    return _crop_centre(resize(image, images), images.size)


def five_crops(content: bytes, images: Images, flip: bool) -> list[Pixels]:
    """Return the four corner crops and the centre crop, each (3, S, S) uint8, and `flip` those of the mirror image too.

    Under resize "adm" they lie in the square in the centre, as RAR's ten crops.
    """
    image = resize(decode(content), images)
    # Not the mirrors of the crops: where the margins are odd, the centre of the mirror image is a pixel away.
    wholes = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] if flip else [image]
    return [crop for whole in wholes for crop in _five_crops(whole, images.size)]


def _five_crops(image: Image.Image, size: int) -> list[Pixels]:
    right, bottom = image.width - size, image.height - size
    corners = [_crop(image, size, left, top) for top in (0, bottom) for left in (0, right)]
    return [*corners, _crop_centre(image, size)]


def augment(content: bytes, images: TrainingImages, rng: np.random.Generator) -> Pixels:
    """Return a training view: (3, S, S) uint8, a function of the file and of `rng`."""
    image = resize(decode(content), images)
    if images.crop == "random":
        free = (image.width - images.size, image.height - images.size)
        pixels = _crop(image, images.size, *rng.integers(0, free, endpoint=True))
    else:
        pixels = _crop_centre(image, images.size)
    if images.shift:
        pixels = _shift(pixels, *rng.integers(-images.shift, images.shift, size=2, endpoint=True))
    if images.flip and rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    return pixels


def _crop_centre(image: Image.Image, size: int) -> Pixels:
    return _crop(image, size, round((image.width - size) / 2), round((image.height - size) / 2))


def _crop(image: Image.Image, size: int, left: int, top: int) -> Pixels:
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


def encode_png(pixels: NDArray[Any], texts: Mapping[str, str] | None = None) -> bytes:
    """(3, H, W) uint8 → a PNG file; `texts` are kept in it by their keywords, as Pillow's `image.text` reads them."""
    buffer, chunks = io.BytesIO(), PngInfo()
    for keyword, text in (texts or {}).items():
        chunks.add_itxt(keyword, text)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()
