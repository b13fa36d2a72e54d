"""Images: from an encoded file to a square uint8 tensor (3, S, S), and to floats in [0, 1].

Conversion, training, evaluation and the public API decode image files by the same rules:

    rotation         turned upright by the EXIF orientation tag
    transparency     the alpha channel is dropped and the stored colours are used as they are
    palettes, grey, black and white, CMYK, YCbCr, HSV, LAB      converted by Pillow, without colour profiles
    16-bit grey      divided by 257, so that 65535 is white; of 16-bit colours the upper byte
    float grey       [0, 1], 1 is white; an error if any value lies outside
    32-bit integers  an error, because the format does not define which value is white
    several frames   the first

Legend: B batch · S side of a crop in pixels · H,W pixels.
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
from onetok.study.schema.datasets import Images, TrainingImages

Pixels = NDArray[np.uint8]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# The formats that are decoded. Pillow knows more, one of which (EPS) would start another program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
LONGEST = 256  # largest ratio of longer to shorter edge of an image in a dataset
RESIZED = 2**26  # largest number of pixels of a resized image, for which Pillow takes 4 bytes each

_UPRIGHT = {  # EXIF orientation → the transposition that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes, name: str = "image") -> Image.Image:
    """Decode an image file to upright RGB; errors call it `name`.

    Raises OnetokError for a file that is damaged or of another format, for an image larger than Pillow's limit, and for
    values whose white is not defined.
    """
    with _one_line(name):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    return to_rgb(image, name)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn any error that Pillow raises for a damaged file into an OnetokError of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, and about images up to twice Pillow's limit
            yield
    except OnetokError:
        raise
    except UnidentifiedImageError:  # its own message contains a memory address
        raise OnetokError(f"{name}: not a readable image: it is none of {', '.join(FORMATS)}") from None
    except Exception as error:
        raise OnetokError(f"{name}: not a readable image: {one_line(error)}") from None


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return an opened image as upright RGB; errors call it `name`.

    Raises OnetokError as `decode` does.
    """
    with _one_line(name):
        image.load()  # decodes all pixels; verify() would accept a truncated file
        orientation = _orientation(image)
        if image.mode.startswith("I;16"):
            image = _grey(np.asarray(image) / 257)
        elif image.mode == "F":
            levels = np.asarray(image)
            if not (levels.min() >= 0 and levels.max() <= 1):
                found = f"float values from {levels.min():g} to {levels.max():g}"
                raise OnetokError(f"{name}: {found}, expected 0 to 1, or 8 or 16 bits a channel")
            image = _grey(levels * 255)
        elif image.mode == "I":
            expected = "expected 8 or 16 bits a channel, or float values in [0, 1]"
            raise OnetokError(f"{name}: 32-bit integers, of which none is known to be white, {expected}")
        rgb = image.convert("RGB")
        return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _grey(levels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 (upright) where it is missing or the metadata is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1


def check_shape(image: Image.Image, name: str) -> None:
    """Raise OnetokError for an image of a larger aspect ratio than LONGEST, which resizing could make huge."""
    if max(image.size) > LONGEST * min(image.size):
        found = f"{image.width} x {image.height} px is too long and narrow"
        raise OnetokError(f"{name}: {found}, expected a longer edge of at most {LONGEST} times the shorter")


def check_resized(image: Image.Image, images: Images, name: str) -> None:
    """Raise OnetokError for an image that `resize` would make larger than RESIZED pixels."""
    scale = images.shorter_edge / min(image.size)
    if image.width * image.height * scale**2 > RESIZED:
        found = f"{image.width} x {image.height} px is too long and narrow to be resized"
        raise OnetokError(f"{name}: {found} to a shorter edge of {images.shorter_edge} px")


def _open(content: bytes, images: Images, name: str) -> Image.Image:
    """Return an image file as upright RGB. Raises OnetokError where it cannot be decoded or resized."""
    image = decode(content, name)
    check_resized(image, images, name)
    return image


def resize(image: Image.Image, images: Images) -> Image.Image:
    """Resize an RGB image so that its shorter edge is `images.shorter_edge`, by the method and filter in `images`.

    Method "adm" (the preprocessing of guided-diffusion) also crops the square in the centre, of which later crops are
    parts.
    """
    if images.resize == "adm":
        return _adm_centre_crop(image, images.shorter_edge, RESAMPLING[images.filter])
    edge, shorter, longer = images.shorter_edge, min(image.size), max(image.size)
    longer = int(edge * longer / shorter)  # truncated, as in torchvision
    size = (edge, longer) if image.width <= image.height else (longer, edge)
    return image if size == image.size else image.resize(size, RESAMPLING[images.filter])


def _adm_centre_crop(image: Image.Image, edge: int, resampling: Image.Resampling) -> Image.Image:
    while min(image.size) >= 2 * edge:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = edge / min(image.size)
    # Rounded, as in ADM's code.
    image = image.resize((round(image.width * scale), round(image.height * scale)), resampling)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.crop((left, top, left + edge, top + edge))


def prepare(content: bytes, images: Images, name: str = "image") -> Pixels:
    """Return the resized centre crop of an image file: (3, S, S) uint8; errors call it `name`.

    Raises OnetokError where the file cannot be decoded or resized.
    """
    return crop_centre(_open(content, images, name), images)


def crop_centre(image: Image.Image, images: Images) -> Pixels:
    """Return the resized centre crop of an RGB image: (3, S, S) uint8."""
    return _crop_centre(resize(image, images), images.size)


def five_crops(content: bytes, images: Images, flip: bool, name: str = "image") -> list[Pixels]:
    """Return the four corner crops and the centre crop, each (3, S, S) uint8, with `flip` also of the mirror image.

    With resize "adm" they are crops of the square in the centre, as are RAR's ten crops (arXiv 2411.00776).

    Raises OnetokError where the file cannot be decoded or resized.
    """
    image = resize(_open(content, images, name), images)
    # Crops of the mirror image, not mirrored crops: with an odd margin, the two centre crops differ by a pixel.
    wholes = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] if flip else [image]
    return [crop for whole in wholes for crop in _five_crops(whole, images.size)]


def _five_crops(image: Image.Image, size: int) -> list[Pixels]:
    right, bottom = image.width - size, image.height - size
    corners = [_crop(image, size, left, top) for top in (0, bottom) for left in (0, right)]
    return [*corners, _crop_centre(image, size)]


def augment(content: bytes, images: TrainingImages, rng: np.random.Generator, name: str = "image") -> Pixels:
    """Return a randomly cropped, shifted and mirrored training image (3, S, S) uint8, as `images` asks.

    It is a function of the file and of `rng`. Raises OnetokError where the file cannot be decoded or resized.
    """
    image = resize(_open(content, images, name), images)
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
    """Return uint8 pixels in [0, 255], of any shape, as float32 in [0, 1]."""
    return pixels.to(torch.float32) / 255


def to_uint8(images: Tensor) -> Tensor:
    """Return float pixels, of any shape, clamped to [0, 1] and rounded to uint8.

    Truncation instead of rounding would darken images by half a level on average.
    """
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def encode_png(pixels: NDArray[Any], texts: Mapping[str, str] | None = None) -> bytes:
    """Return pixels (3, H, W) uint8 as a PNG file, with `texts` by keyword in text chunks (Pillow's `image.text`)."""
    buffer, chunks = io.BytesIO(), PngInfo()
    for keyword, text in (texts or {}).items():
        chunks.add_itxt(keyword, text)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()
