"""Progress of long work: a bar on a terminal, plain periodic lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def is_first_process() -> bool:
    """Return whether this is the process that speaks for a job: the only one, or rank 0 of several."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """Counts up to `total` units of work; `note` is the last thing that a unit had to say, a loss for example.

    Of several processes only the first shows anything.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.label, self.total, self.unit, self.done, self.first = label, total, unit, done, done
        self.started = self.last_line = time.monotonic()
        self.note = ""
        self.shown = is_first_process()
        terminal = self.shown and sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}") if terminal else None

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.note = note or self.note
        if self.bar is not None:
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(count)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or self.done == self.total:
            self._line()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _line(self) -> None:
        if not self.shown:
            return
        now = time.monotonic()
        self.last_line = now
        rate = (self.done - self.first) / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        share = self.done / self.total
        line = f"{self.label}: {self.done}/{self.total} {self.unit} ({share:.0%}), {rate:.1f}/s, ETA {_clock(left)}"
        print(f"{line}, {self.note}" if self.note else line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def track(items: Iterable[T], label: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` under a progress display."""
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    progress = Progress(label, total, unit)
    for item in items:
        yield item
        progress.advance()
    progress.close()
