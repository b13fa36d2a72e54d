"""`onetok reconstruct`: images through a tokenizer and back, as PNG files, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from onetok.data.images import encode_png, to_float, to_uint8
from onetok.errors import OnetokError
from onetok.inference import ImageTokenizer, load_tokenizer
from onetok.metrics.pixels import psnr


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
            raise OnetokError(f"{_shown(image)}: {found}, expected an image file")
    if text is not None and len(text) != len(images):
        raise OnetokError(f"--text: found {len(text)} captions, expected {len(images)}, one for each image")
    model = load_tokenizer(tokenizer, device, study=study)
    prepared = [model.prepare(image) for image in images]  # one bad image, and nothing is encoded
    files: dict[Path, bytes] = {}
    lines = []
    for index, (image, pixels, path) in enumerate(zip(images, prepared, paths, strict=True)):
        files[path], report = _rebuild(model, pixels, None if text is None else [text[index]])
        lines.append(f"{_shown(image)}: {report}, {_shown(path)}")
    _write(files)
    return lines


def _rebuild(model: ImageTokenizer, pixels: Tensor, text: list[str] | None) -> tuple[bytes, str]:
    """Return the PNG and the figures of one image (1, 3, S, S)."""
    tokens = model.encode(pixels, text)
    rebuilt = to_uint8(model.decode(tokens, text)).cpu()
    shape = (
        f"ids {tuple(tokens.ids.shape)}" if tokens.ids is not None else f"{tokens.latents.shape[2]} channels"
    )
    (decibels,) = psnr(pixels, to_float(rebuilt)).tolist()
    return encode_png(rebuilt[0].numpy()), f"{model.tokens} tokens, {shape}, PSNR {decibels:.2f} dB"


def _paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Return where each reconstruction goes."""
    if len(images) == 1:
        if out.is_dir():
            raise OnetokError(f"{_shown(out)}: is a folder, expected --out FILE.png for one image")
        if out.suffix.lower() != ".png":
            raise OnetokError(f"{_shown(out)}: expected --out FILE.png, reconstructions are PNG files")
        if not out.parent.is_dir():
            raise OnetokError(
                f"{_shown(out.parent)}: no such folder, expected one for --out {_shown(out.name)}"
            )
        paths = [out]
    else:
        if out.exists() and not out.is_dir():
            raise OnetokError(f"{_shown(out)}: is a file, expected a folder (--out) for {len(images)} images")
        if not out.parent.is_dir():
            raise OnetokError(
                f"{_shown(out.parent)}: no such folder, expected one for --out {_shown(out.name)}"
            )
        paths = [out / f"{image.stem}.png" for image in images]
    taken: dict[Path, Path] = {}
    originals = {image.resolve() for image in images}
    for image, path in zip(images, paths, strict=True):
        if path in taken:
            raise OnetokError(f"{_shown(path)}: would hold both {_shown(taken[path])} and {_shown(image)}")
        if path.resolve() in originals:
            raise OnetokError(f"{_shown(path)}: is one of the images, expected another --out")
        if path.is_dir():
            raise OnetokError(f"{_shown(path)}: is a folder, expected to write a file there (--out)")
        taken[path] = image
    return paths


def _write(files: Mapping[Path, bytes]) -> None:
    """Write all files or none: beside their places first, then each in one move."""
    partial = {path: path.with_name(f".{path.name}.partial") for path in files}
    folder = next(iter(files)).parent
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        for path, content in files.items():
            partial[path].write_bytes(content)
        for path, temporary in partial.items():
            temporary.replace(path)
    except OSError as error:
        raise OnetokError(f"{_shown(folder)}: cannot be written to: {error.strerror}") from None
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _shown(path: Path | str) -> str:
    """Return a path as one printable line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))
