"""However a program ends, people get one line with the reason last, and no traceback."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from onetok.errors import OnetokError
from onetok.workflow.exits import exit_status


def run(code, *, shell):
    """Run a program whose body is `code`, in a shell."""
    program = (
        f"import sys; from onetok.workflow.exits import exit_status; sys.exit(exit_status(lambda: {code}))"
    )
    command = shell.format(python=sys.executable, code=program)
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_output_that_nobody_reads_any_more_ends_the_program_in_silence():
    code = "[print(n) for n in range(10**6)] and 0"
    status, output, said = run(code, shell="{python} -c '{code}' | head -1; exit ${{PIPESTATUS[0]}}")
    assert (status, output, said) == (141, "0\n", "")


def test_output_into_a_full_disk_is_one_line():
    status, _, said = run("print(1) or 0", shell="{python} -c '{code}' > /dev/full")
    assert (status, said) == (1, "error: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OnetokError("params/x.yaml: wrong"), 1, "params/x.yaml: wrong"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npy"), 1, "a.npy: No space left on device"),
        (PermissionError(13, "Permission denied", "a", None, "b"), 1, "a and b: Permission denied"),
        (OSError("4096 requested and 1024 written"), 1, "4096 requested and 1024 written"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=["ours", "full disk", "two files", "numpy", "interrupt"],
)
def test_an_error_is_one_line_with_the_reason_last(capfd, error, status, line):
    def fails():
        raise error

    assert exit_status(fails) == status
    assert capfd.readouterr().err == f"error: {line}\n"


def test_an_error_of_the_program_itself_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0)
