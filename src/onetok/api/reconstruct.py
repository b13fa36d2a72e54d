"""`onetok reconstruct`: encodes images with a tokenizer, decodes them, and writes PNG files, all of them or none.

Legend: S side of the tokenizer's images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from onetok.api.png_files import output_paths, png_texts, write_all
from onetok.api.tokenizer import ImageTokenizer, load_tokenizer
from onetok.data.images import encode_png, to_float, to_uint8
from onetok.errors import OnetokError, shown_path
from onetok.metrics.pixels import psnr


def reconstruct(
    images: Sequence[Path], *, tokenizer: str, text: Sequence[str] | None, out: Path, device: str, study: Path
) -> list[str]:
    """Write a PNG of each image's reconstruction; return one line for each.

    One image is written to the file `out`, several into the folder `out` under their own names. `text` has a caption
    for each image, for tokenizers that take captions.

    Raises OnetokError for an image, a caption, a path or a tokenizer that cannot be used, before anything is written.
    """
    paths = _paths(images, out)
    for image in images:
        if not image.is_file():
            found = "a folder" if image.is_dir() else "no such file"
            raise OnetokError(f"{shown_path(image)}: {found}, expected an image file")
    if text is not None and len(text) != len(images):
        raise OnetokError(f"--text: found {len(text)} captions, expected {len(images)}, one for each image")
    model = load_tokenizer(tokenizer, device, study=study)
    # All images before the first is encoded, so that an unreadable one is found early.
    prepared = [model.prepare(image) for image in images]
    files: dict[Path, bytes] = {}
    lines = []
    for index, (image, pixels, path) in enumerate(zip(images, prepared, paths, strict=True)):
        caption = None if text is None else text[index]
        # A tokenizer's folder without its path, which says nothing to others who get the file.
        texts = {
            "image": image.name,
            "model": Path(tokenizer).name if Path(tokenizer).exists() else tokenizer,
        }
        texts |= {} if caption is None else {"prompt": caption}
        files[path], report = _reconstructed(model, pixels, caption, texts)
        lines.append(f"{shown_path(image)}: {report}, {shown_path(path)}")
    write_all(files)
    return lines


def _reconstructed(
    model: ImageTokenizer, pixels: Tensor, caption: str | None, texts: Mapping[str, str]
) -> tuple[bytes, str]:
    """Return the reconstruction of pixels (1, 3, S, S) in [0, 1] as a PNG with texts, and a line on its tokens."""
    text = None if caption is None else [caption]
    tokens = model.encode(pixels, text)
    reconstruction = to_uint8(model.decode(tokens, text)).cpu()  # (1, 3, S, S)
    shape = (
        f"ids {tuple(tokens.ids.shape)}" if tokens.ids is not None else f"{tokens.latents.shape[2]} channels"
    )
    (decibels,) = psnr(pixels, to_float(reconstruction)).tolist()
    return encode_png(
        reconstruction[0].numpy(), png_texts(texts)
    ), f"{model.tokens} tokens, {shape}, PSNR {decibels:.2f} dB"


def _paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Return the path of each reconstruction. Raises OnetokError where two are equal or one is an original."""
    paths = output_paths([image.stem for image in images], out)
    taken: dict[Path, Path] = {}
    originals = {image.resolve() for image in images}
    for image, path in zip(images, paths, strict=True):
        if path in taken:
            raise OnetokError(
                f"{shown_path(path)}: would hold both {shown_path(taken[path])} and {shown_path(image)}"
            )
        if path.resolve() in originals:
            raise OnetokError(f"{shown_path(path)}: is one of the images, expected another --out")
        taken[path] = image
    return paths
