"""Exit status of programs, and errors that a user can correct as one line without a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable

from onetok.errors import OnetokError, one_line


def exit_status(run: Callable[[], int]) -> int:
    """Run a program and return its exit status; expected errors are printed to stderr as `error: …`."""
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe or a full disk may raise its error only here
        return status
    except OnetokError as error:
        return _say(str(error))
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
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
    """Return an operating system error as text: the file, then the reason."""
    files = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    why = error.strerror or one_line(error)
    return f"{files}: {why}" if files else why


def _say(text: str) -> int:
    with contextlib.suppress(OSError):  # stderr may be closed
        print(f"error: {text}", file=sys.stderr, flush=True)
    return 1


def _to_nowhere() -> None:
    """Redirect stdout to the null device, because flushing its buffer at exit would raise the error again."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
