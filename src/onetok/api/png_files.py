"""The PNG files that commands write: their paths, their metadata, and writing all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onetok.errors import OnetokError, shown_path

# An --out with such a suffix is meant as a file, not as a folder.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def output_paths(names: Sequence[str], out: Path) -> list[Path]:
    """Return the paths of images: `out` itself for a single one, <out>/<name>.png for several.

    Raises OnetokError for an `out` that cannot be a file or a folder as needed.
    """
    if len(names) == 1 and out.is_dir():
        raise OnetokError(f"{shown_path(out)}: is a folder, expected --out FILE.png for one image")
    if len(names) == 1 and out.suffix.lower() != ".png":
        raise OnetokError(f"{shown_path(out)}: expected --out FILE.png, images are written as PNG files")
    if len(names) > 1 and out.suffix.lower() in PICTURE_SUFFIXES and not out.is_dir():
        text = f"{len(names)} images go into a folder, expected --out FOLDER without {out.suffix}"
        raise OnetokError(f"{shown_path(out)}: {text}")
    if len(names) > 1 and out.exists() and not out.is_dir():
        raise OnetokError(f"{shown_path(out)}: is a file, expected a folder (--out) for {len(names)} images")
    if not out.parent.is_dir():
        raise OnetokError(
            f"{shown_path(out.parent)}: no such folder, expected one for --out {shown_path(out.name)}"
        )
    paths = [out] if len(names) == 1 else [out / f"{name}.png" for name in names]
    for path in paths:
        if path.is_dir():
            raise OnetokError(f"{shown_path(path)}: is a folder, expected to write a file there (--out)")
    return paths


def png_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the text chunks of a PNG file: "Software" and `texts`, which describe how the image was made."""
    printable = {key: text.encode("utf-8", "replace").decode("utf-8") for key, text in texts.items()}
    return {"Software": "onetok", **printable}


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write all files or none: first under temporary names, then renamed.

    Raises OnetokError where they cannot be written.
    """
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
        raise OnetokError(f"{shown_path(folder)}: cannot be written to: {error.strerror}") from None
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
