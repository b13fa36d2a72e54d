"""Folders of images: which files are samples of a class, and what is wrong with the others.

    heron/001.jpg     an image; its suffix is one of SUFFIXES, in upper or lower case
    heron/001.txt     its caption, UTF-8
    heron/001.json    its record (study.schema.records), UTF-8

Caption and record are called the image's sidecar files. Hidden files and folders are ignored. Any other file below a
class folder that is neither an image nor, by its name, an image's sidecar is a bad sample: nothing is dropped without
being counted. Params say whether bad samples are skipped or stop the conversion (on_bad_sample); its report holds their
counts and first names.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from onetok.errors import OnetokError, shown_path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
HIDDEN = ("thumbs.db", "desktop.ini")  # ignored, as are names that begin with a dot
IMAGE_BYTES = 2**30  # largest image file
TEXT_BYTES = 2**20  # largest caption or record

# Reasons for which a sample is bad, by which the report counts.
NO_FILE = "not a regular file"
LINKED_FOLDER = "linked folder"
OTHER_FILE = "neither an image nor beside one"
OUTSIDE = "image outside of a class folder"
MISNAMED = "caption or record with another name"
ALONE = "caption or record without an image"
UNREADABLE = "file that cannot be read"
VANISHED = "file that vanished or changed"
NO_IMAGE = "not a readable image"
NO_CAPTION = "caption that cannot be used"
NO_RECORD = "record that cannot be used"
NAME = "name that is not UTF-8"

_SIDECAR = re.compile(r"(?P<stem>.+)(?P<suffix>\.(txt|json))", re.IGNORECASE | re.DOTALL)


class BadSampleError(OnetokError):
    """A bad sample: its file, one of the reasons above, and a message that names the file and the reason."""

    def __init__(self, path: Path, reason: str, message: str) -> None:
        super().__init__(message)
        self.path, self.reason = path, reason


def _bad(path: Path, reason: str, found: str) -> BadSampleError:
    return BadSampleError(path, reason, f"{shown_path(path)}: {found}")


Bad = Callable[[BadSampleError], None]  # called with every bad sample


class ImageFile(NamedTuple):
    """An image of a class."""

    path: Path
    shares_name: bool  # whether another image of its folder differs from it in the suffix alone


def what_is(path: Path) -> str:
    """Return "file", "folder", or a description of anything else at a path, such as "no such file". Follows links."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _description(path, error)
    except ValueError:
        return "no path: it holds a null character"
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "a named pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def _description(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "a link to nothing" if path.is_symlink() else "no such file"
        case errno.ELOOP:
            return "a link that leads back to itself"
        case _:
            return f"cannot be read ({error.strerror})"


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises BadSampleError for anything else. It never blocks on a named pipe or a device.
    """
    kind = what_is(path)
    if kind != "file":
        gone = kind == "no such file"
        found = "a folder" if kind == "folder" else kind
        raise _bad(path, VANISHED if gone else NO_FILE, f"{found}, expected a file")
    try:
        # O_NONBLOCK because the file may have been replaced by a pipe, which would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            size = os.fstat(descriptor).st_size
            content = stream.read(limit + 1) if size <= limit else b""
    except OSError as error:
        reason = VANISHED if error.errno == errno.ENOENT else UNREADABLE
        raise _bad(path, reason, _description(path, error)) from None
    if max(size, len(content)) > limit:
        raise _bad(path, UNREADABLE, f"{size} bytes, expected at most {limit}")
    return content


# ---------------------------------------------------------------------------------------------- classes


class _Entry(NamedTuple):
    """An entry of a folder's listing."""

    path: Path
    kind: str  # what_is(path)
    linked: bool  # whether it is a symbolic link

    @property
    def description(self) -> str:
        """What the entry is, for error messages; it is not a file."""
        return self.kind if self.kind != "folder" else "a linked folder" if self.linked else "a folder"


def _entries(folder: Path) -> list[_Entry]:
    """Return the entries of a folder that are not hidden, sorted by name.

    Raises BadSampleError for a folder that cannot be listed.
    """
    found = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.startswith(".") or entry.name.lower() in HIDDEN:
                    continue
                path = folder / entry.name
                plain = "file" if entry.is_file(follow_symlinks=False) else None  # needs no system call
                plain = "folder" if entry.is_dir(follow_symlinks=False) else plain
                found.append(_Entry(path, plain or what_is(path), entry.is_symlink()))
    except OSError as error:
        raise _bad(folder, UNREADABLE, f"cannot be listed ({error.strerror})") from None
    return sorted(found, key=lambda entry: entry.path.name)


def class_folders(folder: Path, bad: Bad) -> list[str]:
    """Return the names of the class folders in `folder`, which may be links, in the order of their labels.

    If all names are numbers they are sorted as numbers, otherwise as strings. Images outside of class folders are given
    to `bad`.

    Raises OnetokError where there is no class folder, or where a file system that ignores case or normalises Unicode
    would take two for the same; BadSampleError for a name that is not UTF-8.
    """
    names = []
    for entry in _entries(folder):
        if entry.kind == "folder":
            check_name(entry.path)
            names.append(entry.path.name)
        elif entry.kind == "file" and _is_image(entry.path.name):
            found = "lies beside the class folders, expected images in a sub-folder for each class"
            bad(_bad(entry.path, OUTSIDE, found))
        elif entry.kind != "file" and (entry.linked or _is_image(entry.path.name)):
            bad(_bad(entry.path, NO_FILE, f"{entry.description}, expected a class folder"))
    if not names:
        raise OnetokError(f"{shown_path(folder)}: no class sub-folders, expected one for each class")
    _check_distinct(folder, names)
    numbers = all(re.fullmatch("[0-9]+", name) for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _check_distinct(folder: Path, names: Iterable[str]) -> None:
    """Raise OnetokError for both `7` and `07`, and for names equal up to case and Unicode normalisation."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        number = re.fullmatch("0*([0-9]+)", name)
        same = number[1] if number else _folded(name)
        if same in seen:
            what = "the same number" if number else "the same name but for case or the spelling of accents"
            both = f"the class folders {shown_path(seen[same])!r} and {shown_path(name)!r} have {what}"
            raise OnetokError(f"{shown_path(folder)}: {both}, expected one folder for each class")
        seen[same] = name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_name(path: Path) -> None:
    """Raise BadSampleError for a name that is not UTF-8, such as unpacking an archive of another encoding leaves.

    Shards cannot hold such a name.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise _bad(path, NAME, "its name is not UTF-8, expected a file or folder renamed") from None


# ---------------------------------------------------------------------------------------------- images


def image_files(folder: Path, bad: Bad) -> list[ImageFile]:
    """Return the images in a class folder and its subfolders, sorted by path; bad samples are given to `bad`.

    Subfolders that are links are not entered.
    """
    found, waiting = list[ImageFile](), [folder]
    while waiting:
        try:
            here = _entries(waiting.pop())
        except BadSampleError as error:
            bad(error)
            continue
        waiting += [entry.path for entry in here if _is_entered(entry)]
        found += _samples([entry for entry in here if not _is_entered(entry)], bad)
    return sorted(found, key=lambda image: image.path.parts)


def _is_entered(entry: _Entry) -> bool:
    """Return whether to look for images below: not in links, nor in folders named like an image or a sidecar."""
    name = entry.path.name
    return entry.kind == "folder" and not entry.linked and not (_is_image(name) or _SIDECAR.fullmatch(name))


def _samples(entries: list[_Entry], bad: Bad) -> Iterator[ImageFile]:
    """Yield the images of one folder whose sidecar files are usable by name and kind."""
    images: dict[str, list[Path]] = {}
    excused: set[str] = set()  # names of bad images, whose sidecars are not counted as bad samples too
    for entry in entries:
        if _SIDECAR.fullmatch(entry.path.name):
            continue
        wrong = _unusable(entry)
        if wrong is None:
            images.setdefault(entry.path.stem, []).append(entry.path)
        else:
            bad(wrong)
            excused.add(_folded(entry.path.stem))
    spoiled = _spoiled(entries, images, excused, bad)
    for stem, paths in images.items():
        if stem not in spoiled:
            yield from (ImageFile(path, len(paths) > 1) for path in paths)


def _unusable(entry: _Entry) -> BadSampleError | None:
    """Return why an entry of a class folder is no image, by its name and kind alone; None if it may be one."""
    path = entry.path
    try:
        check_name(path)
    except BadSampleError as error:
        return error
    if entry.kind == "folder" and entry.linked:
        found = "a linked folder, expected the folder itself or links to its images"
        return _bad(path, LINKED_FOLDER, found)
    if entry.kind != "file":
        return _bad(path, NO_FILE, f"{entry.description}, expected an image file")
    if not _is_image(path.name):
        expected = f"images ({', '.join(SUFFIXES)}), their captions (.txt) and records (.json)"
        return _bad(path, OTHER_FILE, f"expected {expected}")
    return None


def _spoiled(entries: list[_Entry], images: dict[str, list[Path]], excused: set[str], bad: Bad) -> set[str]:
    """Return the stems of images with a sidecar that is no regular file or whose name differs slightly from theirs.

    Such images, and sidecars that belong to no image, are given to `bad`.
    """
    spoiled: set[str] = set()
    folded = {_folded(stem): stem for stem in images}
    for entry in entries:
        match = _SIDECAR.fullmatch(entry.path.name)
        if match is None:
            continue
        stem, suffix, owner = match["stem"], match["suffix"], match["stem"]
        if stem in images and suffix == suffix.lower():
            if entry.kind == "file":
                continue
            found, reason = f"{entry.description}, expected the caption or record of an image", NO_FILE
        else:  # for 001.png 001.TXT or 001.png.txt, for heron.png Heron.txt
            near = {_folded(stem), _folded(Path(stem).stem) if _is_image(stem) else _folded(stem)}
            owners = [folded[name] for name in sorted(near) if name in folded]
            if not owners:
                if excused.isdisjoint(near):
                    bad(_bad(entry.path, ALONE, "belongs to no image of its folder"))
                continue
            owner, reason = owners[0], MISNAMED
            expected = shown_path(f"{owner}{suffix.lower()}")
            found = f"expected {expected}, the name of what belongs to {shown_path(images[owner][0].name)}"
        spoiled.add(owner)
        for _ in images[owner]:  # one bad sample for each image of this stem
            bad(_bad(entry.path, reason, found))
    return spoiled


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


# ---------------------------------------------------------------------------------------------- counting

FIRST = 5  # bad samples of each reason that the report names


class BadSamples:
    """Counts the bad samples of a source folder by reason, and remembers the first few of each reason."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        self.reasons: dict[str, int] = {}
        self.first: dict[str, list[BadSampleError]] = {}

    def add(self, error: BadSampleError) -> None:
        """Count a bad sample."""
        self.count += 1
        self.reasons[error.reason] = self.reasons.get(error.reason, 0) + 1
        first = self.first.setdefault(error.reason, [])
        if len(first) < FIRST:
            first.append(error)

    def named(self) -> str:
        """Return the first bad sample's message and the counts by reason, for an error message."""
        first = next(iter(self.first.values()))[0]
        if self.count == 1:
            return str(first)
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{first}; bad samples in all: {counts}"

    def report(self) -> list[dict[str, object]]:
        """Return for each reason its count and the first files, as paths relative to the source folder."""
        return [
            {
                "reason": reason,
                "count": self.reasons[reason],
                "first": [shown_path(os.path.relpath(error.path, self.root)) for error in self.first[reason]],
            }
            for reason in sorted(self.reasons)
        ]
