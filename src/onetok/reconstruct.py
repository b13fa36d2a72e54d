"""`onetok reconstruct`: images through a tokenizer and back, as PNG files, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from onetok.data.images import encode_png, to_float, to_uint8
from onetok.errors import OnetokError
from onetok.inference import ImageTokenizer, load_tokenizer
from onetok.metrics.pixels import psnr
from onetok.pictures import made_by_onetok, places, shown, write_all


def reconstruct(
    images: Sequence[Path], *, tokenizer: str, text: Sequence[str] | None, out: Path, device: str, study: Path
) -> list[str]:
    """Write a PNG of each image's reconstruction; return one line for each.

    One image is written to the file `out`, several into the folder `out` under their own names.
    Raises OnetokError, before anything is written, for an image, a caption, a path or a tokenizer that will not do.
    """
    paths = _paths(images, out)
    for image in images:
        if not image.is_file():
            found = "a folder" if image.is_dir() else "no such file"
            raise OnetokError(f"{shown(image)}: {found}, expected an image file")
    if text is not None and len(text) != len(images):
        raise OnetokError(f"--text: found {len(text)} captions, expected {len(images)}, one for each image")
    model = load_tokenizer(tokenizer, device, study=study)
    prepared = [model.prepare(image) for image in images]  # one bad image, and nothing is encoded
    files: dict[Path, bytes] = {}
    lines = []
    for index, (image, pixels, path) in enumerate(zip(images, prepared, paths, strict=True)):
        caption = None if text is None else text[index]
        # A tokenizer's folder by its name alone: the file may be passed on.
        texts = {
            "image": image.name,
            "model": Path(tokenizer).name if Path(tokenizer).exists() else tokenizer,
        }
        texts |= {} if caption is None else {"prompt": caption}
        files[path], report = _rebuild(model, pixels, caption, texts)
        lines.append(f"{shown(image)}: {report}, {shown(path)}")
    write_all(files)
    return lines


def _rebuild(
    model: ImageTokenizer, pixels: Tensor, caption: str | None, texts: Mapping[str, str]
) -> tuple[bytes, str]:
    """Return the PNG, with texts in it, and the figures of one image (1, 3, S, S)."""
    text = None if caption is None else [caption]
    tokens = model.encode(pixels, text)
    rebuilt = to_uint8(model.decode(tokens, text)).cpu()
    shape = (
        f"ids {tuple(tokens.ids.shape)}" if tokens.ids is not None else f"{tokens.latents.shape[2]} channels"
    )
    (decibels,) = psnr(pixels, to_float(rebuilt)).tolist()
    return encode_png(
        rebuilt[0].numpy(), made_by_onetok(texts)
    ), f"{model.tokens} tokens, {shape}, PSNR {decibels:.2f} dB"


def _paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Return where each reconstruction goes."""
    paths = places([image.stem for image in images], out)
    taken: dict[Path, Path] = {}
    originals = {image.resolve() for image in images}
    for image, path in zip(images, paths, strict=True):
        if path in taken:
            raise OnetokError(f"{shown(path)}: would hold both {shown(taken[path])} and {shown(image)}")
        if path.resolve() in originals:
            raise OnetokError(f"{shown(path)}: is one of the images, expected another --out")
        taken[path] = image
    return paths
