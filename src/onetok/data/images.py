"""Images: from an encoded file to a square uint8 tensor (3, S, S), and to floats in [0, 1].

What a file's pixels are is one rule for all that reads images, conversion, training, evaluation and the public calls:

    rotation         turned upright as the EXIF tag says
    transparency     dropped: the colours that are stored count, whatever their opacity
    palettes, grey, black and white, CMYK, YCbCr, HSV, LAB      converted by Pillow, without colour profiles
    16-bit grey      divided by 257, 65535 is white; of 16-bit colours the upper byte
    float grey       [0, 1], 1 is white; refused where any value lies outside
    32-bit integers  refused: nothing says which value is white
    several frames   the first
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from onetok.errors import OnetokError, one_line
from onetok.params import Images, TrainingImages

Pixels = NDArray[np.uint8]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What is tried on an image file. Pillow knows more, of which EPS would start another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
LONGEST = 256  # the longer edge over the shorter one, of images that datasets take
RESIZED = 2**26  # pixels of a resized image, of which Pillow keeps 4 bytes each

_UPRIGHT = {  # of the EXIF tag's values
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes, place: str = "image") -> Image.Image:
    """Decode an image file to upright RGB; `place` is for messages.

    Raises OnetokError for what is no readable image, is larger than Pillow decodes, or whose values have no white.
    """
    with _one_line(place):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    return to_rgb(image, place)


@contextmanager
def _one_line(place: str) -> Iterator[None]:
    """Turn whatever a damaged file makes Pillow's readers raise into an OnetokError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities in metadata, and below twice the largest size
            yield
    except OnetokError:
        raise
    except UnidentifiedImageError:  # whose own words hold an address in memory
        raise OnetokError(f"{place}: not a readable image: it is none of {', '.join(FORMATS)}") from None
    except Exception as error:
        raise OnetokError(f"{place}: not a readable image: {one_line(error)}") from None


def to_rgb(image: Image.Image, place: str) -> Image.Image:
    """Return an opened image as upright RGB; `place` is for messages.

    Raises OnetokError as `decode` does.
    """
    with _one_line(place):
        image.load()  # all of it: verify() lets a truncated file pass
        orientation = _orientation(image)
        if image.mode.startswith("I;16"):
            image = _grey(np.asarray(image) / 257)
        elif image.mode == "F":
            levels = np.asarray(image)
            if not (levels.min() >= 0 and levels.max() <= 1):
                found = f"float values from {levels.min():g} to {levels.max():g}"
                raise OnetokError(f"{place}: {found}, expected 0 to 1, or 8 or 16 bits a channel")
            image = _grey(levels * 255)
        elif image.mode == "I":
            expected = "expected 8 or 16 bits a channel, or float values in [0, 1]"
            raise OnetokError(f"{place}: 32-bit integers, of which none is known to be white, {expected}")
        rgb = image.convert("RGB")
        return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _grey(levels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation; damaged metadata has none and spoils no picture."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1


def check_shape(image: Image.Image, place: str) -> None:
    """Raise OnetokError for an image so narrow that, resized, it would fill the memory."""
    if max(image.size) > LONGEST * min(image.size):
        found = f"{image.width} x {image.height} px is too long and narrow"
        raise OnetokError(f"{place}: {found}, expected a longer edge of at most {LONGEST} times the shorter")


def check_resized(image: Image.Image, images: Images, place: str) -> None:
    """Raise OnetokError for an image that `resize` would make too large for memory."""
    scale = images.shorter_edge / min(image.size)
    if image.width * image.height * scale**2 > RESIZED:
        found = f"{image.width} x {image.height} px is too long and narrow to be resized"
        raise OnetokError(f"{place}: {found} to a shorter edge of {images.shorter_edge} px")


def _open(content: bytes, images: Images, place: str) -> Image.Image:
    """Return an image file as upright RGB that can be resized."""
    image = decode(content, place)
    check_resized(image, images, place)
    return image


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


def prepare(content: bytes, images: Images, place: str = "image") -> Pixels:
    """Return the centre crop of an image file: (3, S, S) uint8; `place` is for messages."""
    return crop_centre(_open(content, images, place), images)


def crop_centre(image: Image.Image, images: Images) -> Pixels:
    """Return the centre crop of an RGB image: (3, S, S) uint8."""
    return _crop_centre(resize(image, images), images.size)


def five_crops(content: bytes, images: Images, flip: bool, place: str = "image") -> list[Pixels]:
    """Return the four corner crops and the centre crop, each (3, S, S) uint8, and `flip` those of the mirror image too.

    Under resize "adm" they lie in the square in the centre, as RAR's ten crops.
    """
    image = resize(_open(content, images, place), images)
    # Not the mirrors of the crops: where the margins are odd, the centre of the mirror image is a pixel away.
    wholes = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] if flip else [image]
    return [crop for whole in wholes for crop in _five_crops(whole, images.size)]


def _five_crops(image: Image.Image, size: int) -> list[Pixels]:
    right, bottom = image.width - size, image.height - size
    corners = [_crop(image, size, left, top) for top in (0, bottom) for left in (0, right)]
    return [*corners, _crop_centre(image, size)]


def augment(content: bytes, images: TrainingImages, rng: np.random.Generator, place: str = "image") -> Pixels:
    """Return a training view: (3, S, S) uint8, a function of the file and of `rng`."""
    image = resize(_open(content, images, place), images)
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
