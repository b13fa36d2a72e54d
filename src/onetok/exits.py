"""How programs end: an exit status, and for what people can mend no traceback but one line, the reason last."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable

from onetok.errors import OnetokError, one_line


def exit_status(run: Callable[[], int]) -> int:
    """Run a program and return its exit status."""
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe or a full disk may show only here
        return status
    except OnetokError as error:
        return _say(str(error))
    except BrokenPipeError:  # who reads the output has seen enough, as `head` has
        _to_nowhere()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + signal.SIGINT
    except OSError as error:
        status = _say(reason(error))
        _to_nowhere()
        return status


def reason(error: OSError) -> str:
    """Return what a system's error says: the file, then why."""
    files = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    why = error.strerror or one_line(error)
    return f"{files}: {why}" if files else why


def _say(text: str) -> int:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {text}", file=sys.stderr, flush=True)
    return 1


def _to_nowhere() -> None:
    """Point the output to nowhere: what is still in its buffer would raise the error again at the end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
