"""Files that are whole or absent, whatever stops the program: a full disk, a kill, a power cut.

A file is written under a temporary name beside its own, flushed to the disk, and renamed; then the folder is flushed,
because the rename itself is an entry of the folder. A rename without the first flush can leave an empty file under
the final name after a power cut. A link at the final name is replaced, never written through: DVC's cache may be
behind it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from onetok.errors import OnetokError, one_line

PARTIAL = ".partial-"  # what temporary names begin with; a killed program leaves them, and the next one removes them


# What zipfile, and readers of what is in an archive, raise for files that are cut or changed.
ARCHIVE_ERRORS = (
    *(EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` for a library to write, and rename it when the block ends well.

    The temporary name has the suffix of `path`, from which libraries tell the format. After an error nothing remains
    of it, and what was at `path` is still there.

    Raises OnetokError, which names `path` and the reason, where the file cannot be written.
    """
    # The suffix alone: with the whole name in it the temporary name could be too long.
    temporary = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}{path.suffix}")
    try:
        mode = _create(temporary)
        yield temporary
        temporary.chmod(mode)  # some libraries write files that only their owner may read
        _flush(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: torch.save
        reason = _reason_of_writing(error, {str(temporary), str(path.parent)})
        if reason is None:
            raise
        raise OnetokError(f"{path}: cannot be written: {reason}; nothing partial remains") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream into what becomes the file at `path` when the block ends well. Raises as `replacing`."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        yield stream


def write_bytes(path: Path, content: bytes) -> None:
    with writing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with the line ends that `text` has, whatever the machine's are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any, *, sort_keys: bool = True) -> None:
    """Write indented JSON. Raises OnetokError for NaN and infinity, which JSON has no numbers for."""
    for where, value in _not_finite(content):
        raise OnetokError(f"{path}: cannot be written: {where} is {value}, expected a finite number or null")
    text = json.dumps(content, indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def copy(source: Path, target: Path) -> None:
    """Copy a file's content, a piece at a time."""
    with source.open("rb") as read, writing(target) as write:
        while piece := read.read(1 << 20):
            write.write(piece)


def remove_partial(folder: Path) -> None:
    """Remove what a killed program left under temporary names in a folder. Nothing may be writing there."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def archive_damage(path: Path) -> str | None:
    """Return what is wrong with a zip file, as torch.save and numpy.savez write them, None where it is whole.

    Reads all of it and compares digests, which torch and numpy do not, or only for what they take from it.
    """
    if not path.stat().st_size:
        return "the file is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except ARCHIVE_ERRORS as error:
        return one_line(error)
    return f"{changed} in it does not have its digest" if changed is not None else None


def flush_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where its file system can do so."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # what network file systems answer
            raise
    finally:
        os.close(descriptor)


def _create(path: Path) -> int:
    """Create an empty file and return its mode, which follows the umask and the folder's defaults."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason_of_writing(error: BaseException, names: set[str]) -> str | None:
    """Return why a file of these names could not be written, None for an error that is about something else."""
    seen: BaseException | None = error
    while seen is not None:  # torch.save raises its own error while it handles the system's
        if isinstance(seen, OSError):
            if seen.filename is not None and str(seen.filename) not in names:
                return None  # of another file, which was read in between
            return seen.strerror or one_line(seen)
        if isinstance(seen, SafetensorError) and "I/O error" in str(seen):
            return one_line(seen)
        seen = seen.__cause__ or seen.__context__
    return None


def _not_finite(content: Any, where: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, float) and not math.isfinite(content):
        yield where or "the content", content
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list | tuple)
        else ()
    )
    for key, value in items:
        yield from _not_finite(value, f"{where}.{key}" if where else str(key))
