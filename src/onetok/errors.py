"""The error that people see: one clear line, no traceback."""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LINE = 1000  # characters of a line of a report


class OnetokError(Exception):
    """Something the user can mend. The message names the file, the key or tensor, what was found and expected.

    Messages go to logs: passwords and queries of addresses in them are left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class OnetokWarning(UserWarning):
    """Something that the user may not have meant, in one line."""


def print_warnings() -> None:
    """Print every OnetokWarning as one line on stderr, for programs; other warnings stay as they are."""
    others = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, OnetokWarning):
            print(f"warning: {message}", file=sys.stderr, flush=True)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    warnings.filterwarnings("always", category=OnetokWarning)


def without_secrets(text: str) -> str:
    """Return a text whose addresses show no user, password or query."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


_SECRETS = (  # up to the last @, because people write passwords with / and @ in them
    (re.compile(r"([A-Za-z][\w+.-]*://)[^\s'\"]*@"), r"\1…@"),
    (re.compile(r"([A-Za-z][\w+.-]*://[^\s'\"?]*\?)[^\s'\"]+"), r"\1…"),
)


def one_line(error: BaseException) -> str:
    """Return the message of an error as part of one line; the name of its class where the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(value: Any) -> str:
    """Return a value as part of a message, its middle left out where it is long or deep."""
    return _SHORT.repr(value)


class _Short(reprlib.Repr):
    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(without_secrets(x), level)  # before it is cut, so that no half of one remains


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlevel = 3


def printable(text: str) -> str:
    """Return text as one line of a report: control characters as escapes, the middle of very long text left out."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line if len(line) <= LINE else f"{line[: LINE // 2]} … {line[-LINE // 2 :]}"


def shown_path(path: Path | str) -> str:
    """Return a path as one printable line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return which known name a word may have meant, as part of a message."""
    close = difflib.get_close_matches(word[:100], sorted(known), n=1, cutoff=0.0)
    return f"nearest known: {close[0]}" if close else "nothing of this kind is defined"
