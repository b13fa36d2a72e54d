"""Conversion of the public API's inputs to the tensors that models take: pictures, pixels, ids, latents, captions.

A picture is one image of any size; pixels are images of the model's size.

Legend: B batch · S side of the model's images · H,W sides of any picture · N tokens · C token channels.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from onetok.data.images import to_float
from onetok.errors import OnetokError, one_line

# A picture of any size and mode; arrays are uint8 (H, W, 3), (H, W, 4) or (H, W).
Picture = Image.Image | bytes | bytearray | str | Path | BinaryIO | NDArray[Any]
# Pixels (B, 3, S, S) or, in NumPy, (B, S, S, 3); a picture; or a list of these or of pixels (3, S, S).
Pictures = Tensor | Picture | Sequence[Any]
Ids = Tensor | NDArray[Any] | Sequence[Sequence[int]]  # (B, N) of any integer type
Latents = Tensor | NDArray[Any]  # (B, N, C) of any float type


def open_picture(image: Any) -> Image.Image | bytes | str | Path:
    """Return a picture as a path, as the bytes of its file, or as a Pillow image. Raises OnetokError if it is none."""
    if isinstance(image, Image.Image) and not (image.width and image.height):
        raise OnetokError(f"image: found {image.width} x {image.height} px, expected an image with pixels")
    if isinstance(image, Image.Image | bytes | str | Path):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
            found = f"{image.shape} {image.dtype}"
            raise OnetokError(
                f"image: found {found}, expected uint8 (H, W, 3) or (H, W) of a picture as an array"
            )
        return Image.fromarray(
            np.ascontiguousarray(image[..., 0] if channels == 1 and image.ndim == 3 else image)
        )
    if callable(getattr(image, "read", None)):
        content = image.read()
        if isinstance(content, bytes):
            return content
    expected = (
        "a path, a file open for reading bytes, its bytes, an image of Pillow, or uint8 (H, W, 3) of NumPy"
    )
    raise OnetokError(f"image: found {type(image).__name__}, expected {expected}")


def as_pixels(images: Any, size: int, prepare: Callable[[Any], Tensor]) -> Tensor:
    """Return images as (B, 3, S, S) float32 in [0, 1]; `prepare` turns a picture into (1, 3, S, S).

    Raises OnetokError for another shape or type, and for floats outside [0, 1]; the message gives their range.
    """
    if isinstance(images, list | tuple):
        if any(isinstance(image, list | tuple) for image in images):
            raise OnetokError("images: found a list in a list, expected pictures or pixels (3, S, S) in it")
        parts = [as_pixels(_batched(image), size, prepare) for image in images]
        return torch.cat([torch.empty(0, 3, size, size), *(part.cpu() for part in parts)])
    if isinstance(images, np.ndarray) and images.ndim == 4:
        channels_last = images.shape[3] == 3 and images.shape[1] != 3
        images = as_tensor(images.transpose(0, 3, 1, 2) if channels_last else images, "images")
    if not isinstance(images, Tensor):
        return prepare(images)
    found = as_tensor(images, "images")
    expected = f"(B, 3, {size}, {size}) float in [0, 1] or uint8 of 0 to 255"
    pixels = found.dtype is torch.uint8 or found.is_floating_point()
    if found.ndim != 4 or found.shape[1:] != (3, size, size) or not pixels:
        raise OnetokError(f"images: found {_kind(found)}, expected {expected}")
    if found.dtype is torch.uint8:
        return to_float(found)
    values = found.detach().to(torch.float32)
    _check_range(values)
    return values


def _batched(image: Any) -> Any:
    """Return pixels (3, S, S) as (1, 3, S, S), and everything else as it is."""
    single = isinstance(image, Tensor | np.ndarray) and image.ndim == 3 and image.shape[0] == 3
    return image[None] if single else image


def _check_range(pixels: Tensor) -> None:
    if not pixels.numel():
        return
    low, high = (float(value) for value in torch.aminmax(pixels))
    if low >= 0 and high <= 1:
        return
    hint = ""
    if low > -0.2 and high < 1.2:
        hint = "; clamp(0, 1) cuts what a filter overshoots"
    elif low >= -1 and high <= 1:
        hint = "; x / 2 + 0.5 brings [-1, 1] there"
    elif low >= 0 and high <= 255:
        hint = "; x / 255 brings [0, 255] there"
    raise OnetokError(
        f"images: found values from {low:g} to {high:g}, expected floats in [0, 1] or uint8{hint}"
    )


def as_ids(ids: Any, tokens: int, codebook_size: int) -> Tensor:
    """Return ids as (B, N) int64. Raises OnetokError for another shape or type, and for ids outside the codebook."""
    found = as_tensor(ids, "ids")
    if found.ndim != 2 or found.shape[1] != tokens:
        raise OnetokError(f"ids: found shape {tuple(found.shape)}, expected (B, {tokens})")
    if found.is_floating_point() or found.is_complex() or found.dtype is torch.bool:
        raise OnetokError(f"ids: found {str(found.dtype).removeprefix('torch.')}, expected integers")
    whole = found.to(torch.int64)  # before aminmax, which does not take uint16
    if whole.numel():
        low, high = (int(value) for value in torch.aminmax(whole))
        if not 0 <= low <= high < codebook_size:
            raise OnetokError(f"ids: found {low} to {high}, expected 0 to {codebook_size - 1}")
    return whole


def as_latents(latents: Any, tokens: int, channels: int) -> Tensor:
    """Return latents as (B, N, C) float32. Raises OnetokError for another shape, and for NaN or infinity."""
    found = as_tensor(latents, "tokens")
    if found.ndim != 3 or found.shape[1:] != (tokens, channels):
        raise OnetokError(
            f"tokens: latents of shape {tuple(found.shape)}, expected (B, {tokens}, {channels})"
        )
    values = found.detach().to(torch.float32)
    if not values.isfinite().all():
        raise OnetokError("tokens: latents that are NaN or infinite, expected finite numbers")
    return values


def as_tensor(value: Any, what: str) -> Tensor:
    """Return a tensor, an array or a list of numbers as a dense tensor. Raises OnetokError for anything else."""
    if isinstance(value, Tensor):
        if value.is_nested or value.layout is not torch.strided or value.is_meta:
            state = "nested" if value.is_nested else str(value.layout)
            state = "on the meta device" if value.is_meta else state
            raise OnetokError(f"{what}: found a tensor that is {state}, expected one with values, dense")
        return value
    if isinstance(value, list | tuple) and any(isinstance(row, Tensor) for row in value):
        value = [row.cpu().numpy() if isinstance(row, Tensor) else row for row in value]
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise OnetokError(f"{what}: {one_line(error)}, expected an array") from None
    if array.dtype.kind not in "biuf":
        raise OnetokError(
            f"{what}: found {type(value).__name__} of {array.dtype}, expected an array of numbers"
        )
    kind = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    copy = np.array(array, dtype=kind, order="C")  # the given array may be read-only or memory-mapped
    return torch.from_numpy(copy)


def as_captions(captions: Any, what: str, expected: str) -> list[str]:
    """Return captions as a list. Raises OnetokError for anything but a list of strings, and for invalid Unicode."""
    if isinstance(captions, str):
        raise OnetokError(f"{what}: found one string, expected {expected}")
    try:
        texts = list(captions)
    except (TypeError, RuntimeError):  # a tensor that cannot be iterated raises RuntimeError
        raise OnetokError(f"{what}: found {type(captions).__name__}, expected {expected}") from None
    if not all(isinstance(text, str) for text in texts):
        raise OnetokError(f"{what}: found other things than strings, expected {expected}")
    for text in texts:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise OnetokError(f"{what}: {ascii(text)[:80]} is not valid UTF-8, expected {expected}")
    return texts


def as_whole(value: Any, what: str, least: int) -> int:
    """Return a whole number of any integer type as int. Raises OnetokError for others, and outside [least, 2^63)."""
    try:
        number = operator.index(value)
    except TypeError:
        raise OnetokError(f"{what} {value!r}: expected a whole number, {least} or more") from None
    if not least <= number < 2**63:
        raise OnetokError(f"{what} {number}: expected {least} or more{', below 2^63' if number > 0 else ''}")
    return number


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
