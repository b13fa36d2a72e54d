"""PNG files that commands write for people: where they go, and all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onetok.errors import OnetokError

# A folder of such a name was meant to be a file.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


def places(names: Sequence[str], out: Path) -> list[Path]:
    """Return where pictures go: one to the file `out`, several into the folder `out` under their names.

    Raises OnetokError for an `out` that will not do.
    """
    if len(names) == 1 and out.is_dir():
        raise OnetokError(f"{shown(out)}: is a folder, expected --out FILE.png for one image")
    if len(names) == 1 and out.suffix.lower() != ".png":
        raise OnetokError(f"{shown(out)}: expected --out FILE.png, images are written as PNG files")
    if len(names) > 1 and out.suffix.lower() in PICTURE_SUFFIXES and not out.is_dir():
        text = f"{len(names)} images go into a folder, expected --out FOLDER without {out.suffix}"
        raise OnetokError(f"{shown(out)}: {text}")
    if len(names) > 1 and out.exists() and not out.is_dir():
        raise OnetokError(f"{shown(out)}: is a file, expected a folder (--out) for {len(names)} images")
    if not out.parent.is_dir():
        raise OnetokError(f"{shown(out.parent)}: no such folder, expected one for --out {shown(out.name)}")
    paths = [out] if len(names) == 1 else [out / f"{name}.png" for name in names]
    for path in paths:
        if path.is_dir():
            raise OnetokError(f"{shown(path)}: is a folder, expected to write a file there (--out)")
    return paths


def made_by_onetok(texts: Mapping[str, str]) -> dict[str, str]:
    """Return what a PNG file says of how it was made, one line each: a function of what was asked for alone."""
    printable = {key: text.encode("utf-8", "replace").decode("utf-8") for key, text in texts.items()}
    return {"Software": "onetok", **printable}


def write_all(files: Mapping[Path, bytes]) -> None:
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
        raise OnetokError(f"{shown(folder)}: cannot be written to: {error.strerror}") from None
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def shown(path: Path | str) -> str:
    """Return a path as one printable line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))
