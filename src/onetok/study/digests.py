"""sha256 of files, each version of a file read once.

An index beside the results keeps the digest of a file with what tells its versions apart: size, times and inode. The
time of the last change of the inode is one of them, because no program can set it: bytes that change are noticed even
where the time of the last write was put back. The index is a cache: it may be lost or damaged at any time, and several
programs may write it at once (the last one wins).
"""

from __future__ import annotations

import hashlib
import json
import stat
import time
from pathlib import Path

from onetok import durable
from onetok.errors import OnetokError

# Two writes within one tick of the system's clock leave the same times. A file is read only when its own time is at
# least this old, so that a later write shows; the kernel's ticks are 1 to 10 ms apart.
TICK = 20_000_000  # ns

Version = list[int]  # size, time of the last write and of the last change in ns, inode


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DigestIndex:
    """Digests of the files of one folder by their names in it; used in a `with`, which keeps what it found."""

    def __init__(self, folder: Path, index: Path | None) -> None:
        """`index` is where the index is kept, None for a folder outside a study: then every file is read."""
        self.folder, self.index = folder, index
        self.known = _read(index) if index is not None else {}
        self.found: dict[str, tuple[str, Version]] = {}

    def __enter__(self) -> DigestIndex:
        return self

    def __exit__(self, *_: object) -> None:
        merged = self.known | self.found
        if self.index is not None and merged != self.known:
            _keep(self.index, merged)

    def digest(self, name: str, *, again: bool = False) -> str:
        """Return the sha256 of a file, `again` read even where the index knows this version of it.

        Raises OnetokError for what is no regular file, OSError where it cannot be read.
        """
        path = self.folder / name
        version = _version(path)
        digest, known = self.known.get(name, ("", []))
        if not again and known == version:
            return digest
        if time.time_ns() - version[2] < TICK:
            time.sleep(TICK / 1e9)
        started = time.time_ns()
        digest = sha256(path)
        if _version(path) == version and started - version[2] >= TICK:
            self.found[name] = (digest, version)
        return digest


def _version(path: Path) -> Version:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OnetokError(f"{path}: is no regular file, expected one")
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(index: Path) -> dict[str, tuple[str, Version]]:
    """Return what an index holds; nothing where it is missing or damaged, for everything can be read again."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        return {name: (str(digest), list(map(int, version))) for name, (digest, version) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(index: Path, entries: dict[str, tuple[str, Version]]) -> None:
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        durable.write_json(index, entries)
    except (OSError, OnetokError):  # a full disk, or somebody else's results: files will be read again
        pass
