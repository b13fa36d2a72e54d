"""Folders of images: which files are samples of a class, and what is wrong with the others.

    heron/001.jpg     an image; its suffix is one of SUFFIXES, in any case
    heron/001.txt     its caption, UTF-8
    heron/001.json    its record (data.records), UTF-8

Hidden files and folders never count. Any other file below a class folder that is no image, or that does not belong to
one by its name, is a bad sample: nothing is dropped without being counted. Params say what becomes of bad samples
(on_bad_sample); the counts and the first names stand in the report of the conversion.
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

from onetok.errors import OnetokError
from onetok.pictures import shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
HIDDEN = ("thumbs.db", "desktop.ini")  # beside names that begin with a dot
IMAGE_BYTES = 2**30  # an image file is at most so large
TEXT_BYTES = 2**20  # a caption or a record

# Why a sample is bad: what the report counts.
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

_BESIDE = re.compile(r"(?P<stem>.+)(?P<suffix>\.(txt|json))", re.IGNORECASE | re.DOTALL)


class BadSampleError(OnetokError):
    """A file that is no sample; the message names it and says why."""

    def __init__(self, path: Path, reason: str, message: str) -> None:
        super().__init__(message)
        self.path, self.reason = path, reason


def _bad(path: Path, reason: str, found: str) -> BadSampleError:
    return BadSampleError(path, reason, f"{shown(path)}: {found}")


Bad = Callable[[BadSampleError], None]  # takes note of one


class ImageFile(NamedTuple):
    path: Path
    shares_name: bool  # with another image of its folder, which differs in its suffix


def what_is(path: Path) -> str:
    """Return "file" or "folder", or what else lies at a path, in words. Links are followed."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _trouble(path, error)
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


def _trouble(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "a link to nothing" if path.is_symlink() else "no such file"
        case errno.ELOOP:
            return "a link that leads back to itself"
        case _:
            return f"cannot be read ({error.strerror})"


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes, without ever waiting for a pipe or a device.

    Raises BadSampleError for anything else.
    """
    kind = what_is(path)
    if kind != "file":
        gone = kind == "no such file"
        found = "a folder" if kind == "folder" else kind
        raise _bad(path, VANISHED if gone else NO_FILE, f"{found}, expected a file")
    try:
        # The flag: should it have become a pipe since, opening it does not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            size = os.fstat(descriptor).st_size
            content = stream.read(limit + 1) if size <= limit else b""
    except OSError as error:
        reason = VANISHED if error.errno == errno.ENOENT else UNREADABLE
        raise _bad(path, reason, _trouble(path, error)) from None
    if max(size, len(content)) > limit:
        raise _bad(path, UNREADABLE, f"{size} bytes, expected at most {limit}")
    return content


# ---------------------------------------------------------------------------------------------- classes


class _Entry(NamedTuple):
    """Something in a folder."""

    path: Path
    kind: str  # as what_is says
    linked: bool

    @property
    def unread(self) -> str:
        """What it is in words, where it is no file."""
        return self.kind if self.kind != "folder" else "a linked folder" if self.linked else "a folder"


def _entries(folder: Path) -> list[_Entry]:
    """Return what lies in a folder, in the order of the names, but for what is hidden.

    Raises BadSampleError for a folder that cannot be listed.
    """
    found = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.startswith(".") or entry.name.lower() in HIDDEN:
                    continue
                path = folder / entry.name
                plain = "file" if entry.is_file(follow_symlinks=False) else None  # no look at the disk
                plain = "folder" if entry.is_dir(follow_symlinks=False) else plain
                found.append(_Entry(path, plain or what_is(path), entry.is_symlink()))
    except OSError as error:
        raise _bad(folder, UNREADABLE, f"cannot be listed ({error.strerror})") from None
    return sorted(found, key=lambda entry: entry.path.name)


def class_folders(folder: Path, bad: Bad) -> list[str]:
    """Return the names of the class folders in `folder`, which may be links, in the order of their labels.

    Names that are numbers, all of them, are in the order of the numbers; other names in the order of their characters.
    Raises OnetokError where there is none, or where two are one to another machine.
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
            bad(_bad(entry.path, NO_FILE, f"{entry.unread}, expected a class folder"))
    if not names:
        raise OnetokError(f"{shown(folder)}: no class sub-folders, expected one for each class")
    _check_distinct(folder, names)
    numbers = all(re.fullmatch("[0-9]+", name) for name in names)
    return sorted(names, key=int) if numbers else sorted(names)


def _check_distinct(folder: Path, names: Iterable[str]) -> None:
    """Raise OnetokError for `7` beside `07`, and for names that differ in case alone or in how accents are spelled."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        number = re.fullmatch("0*([0-9]+)", name)
        same = number[1] if number else _folded(name)
        if same in seen:
            what = "the same number" if number else "the same name but for case or the spelling of accents"
            both = f"the class folders {shown(seen[same])!r} and {shown(name)!r} have {what}"
            raise OnetokError(f"{shown(folder)}: {both}, expected one folder for each class")
        seen[same] = name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_name(path: Path) -> None:
    """Raise BadSampleError for a name that shards cannot hold, as an archive of another encoding leaves it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise _bad(path, NAME, "its name is not UTF-8, expected a file or folder renamed") from None


# ---------------------------------------------------------------------------------------------- images


def image_files(folder: Path, bad: Bad) -> list[ImageFile]:
    """Return the images in a class folder and below, in the order of their paths; linked folders are not entered."""
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
    """Whether to look for images below: not through links, and not where a name promises a file."""
    name = entry.path.name
    return entry.kind == "folder" and not entry.linked and not (_is_image(name) or _BESIDE.fullmatch(name))


def _samples(entries: list[_Entry], bad: Bad) -> Iterator[ImageFile]:
    """Yield the images of one folder whose captions and records can be theirs."""
    images: dict[str, list[Path]] = {}
    excused: set[str] = set()  # names of bad files: the caption of one is no fault of its own
    for entry in entries:
        if _BESIDE.fullmatch(entry.path.name):
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
    """Return what keeps something in a class folder from being an image, judged by its name and kind alone."""
    path = entry.path
    try:
        check_name(path)
    except BadSampleError as error:
        return error
    if entry.kind == "folder" and entry.linked:
        found = "a linked folder, expected the folder itself or links to its images"
        return _bad(path, LINKED_FOLDER, found)
    if entry.kind != "file":
        return _bad(path, NO_FILE, f"{entry.unread}, expected an image file")
    if not _is_image(path.name):
        expected = f"images ({', '.join(SUFFIXES)}), their captions (.txt) and records (.json)"
        return _bad(path, OTHER_FILE, f"expected {expected}")
    return None


def _spoiled(entries: list[_Entry], images: dict[str, list[Path]], excused: set[str], bad: Bad) -> set[str]:
    """Return the names of images whose caption or record is no file, or has not quite the name that it should have."""
    spoiled: set[str] = set()
    folded = {_folded(stem): stem for stem in images}
    for entry in entries:
        match = _BESIDE.fullmatch(entry.path.name)
        if match is None:
            continue
        stem, suffix, owner = match["stem"], match["suffix"], match["stem"]
        if stem in images and suffix == suffix.lower():
            if entry.kind == "file":
                continue
            found, reason = f"{entry.unread}, expected the caption or record of an image", NO_FILE
        else:  # 001.TXT or 001.png.txt beside 001.png, Heron.txt beside heron.png
            near = {_folded(stem), _folded(Path(stem).stem) if _is_image(stem) else _folded(stem)}
            owners = [folded[name] for name in sorted(near) if name in folded]
            if not owners:
                if excused.isdisjoint(near):
                    bad(_bad(entry.path, ALONE, "belongs to no image of its folder"))
                continue
            owner, reason = owners[0], MISNAMED
            expected = shown(f"{owner}{suffix.lower()}")
            found = f"expected {expected}, the name of what belongs to {shown(images[owner][0].name)}"
        spoiled.add(owner)
        for _ in images[owner]:  # each is lost
            bad(_bad(entry.path, reason, found))
    return spoiled


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


# ---------------------------------------------------------------------------------------------- counting

FIRST = 5  # names of each reason that the report holds


class BadSamples:
    """Counts bad samples by reason, and keeps the first few of each."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0
        self.reasons: dict[str, int] = {}
        self.first: dict[str, list[BadSampleError]] = {}

    def add(self, error: BadSampleError) -> None:
        self.count += 1
        self.reasons[error.reason] = self.reasons.get(error.reason, 0) + 1
        kept = self.first.setdefault(error.reason, [])
        if len(kept) < FIRST:
            kept.append(error)

    def named(self) -> str:
        """Return the first of them and the counts as part of a line."""
        first = next(iter(self.first.values()))[0]
        if self.count == 1:
            return str(first)
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{first}; bad samples in all: {counts}"

    def report(self) -> list[dict[str, object]]:
        """Return the counts and the first names, relative to the source."""
        return [
            {
                "reason": reason,
                "count": self.reasons[reason],
                "first": [shown(os.path.relpath(error.path, self.root)) for error in self.first[reason]],
            }
            for reason in sorted(self.reasons)
        ]
