"""The messages of a failing workflow: each error once, when it happens, and a summary at the end.

Snakemake itself repeats the command and files of a failed job, and does not say at its end what failed hours before.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NAMES = 6  # names in a line of skipped jobs
FULL = 1 << 20  # free bytes below which the summary calls a disk full


class JobErrors(logging.Filter):
    """Drops Snakemake's messages on failed jobs, since stages print the reason and the summary the list."""

    SAID_ELSEWHERE = (
        "Exiting because a job execution failed",
        "At least one job did not complete successfully",
        "returned non-zero exit status",  # with the whole command, of a job whose stage has said why it ends
    )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        event = getattr(getattr(record, "event", None), "name", "")
        said = any(text in record.getMessage() for text in self.SAID_ELSEWHERE)
        return event not in ("JOB_ERROR", "GROUP_ERROR") and not said


class Run(NamedTuple):
    """A job in the summary."""

    stage: str
    name: str  # family/variant
    log: str | None  # path of its log file


def summary(failed: Sequence[Run], unmade: Sequence[Run], directory: Path) -> str:
    """Return the summary: failed jobs with their reasons and logs, and jobs that did not run because of them."""
    lines = [f"{_jobs(len(failed))} failed:"]
    for run in sorted(failed):
        lines.append(f"  {run.stage} {run.name}: {reason(directory, run)}")
        lines.append(f"    log: {(directory / run.log).resolve() if run.log else 'none'}")
    if unmade:
        lines.append(f"{_jobs(len(unmade))} not run because of {'it' if len(failed) == 1 else 'them'}:")
    for stage in dict.fromkeys(run.stage for run in unmade):
        names = [run.name for run in unmade if run.stage == stage]
        more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
        lines.append(f"  {stage} {', '.join(names[:NAMES])}{more}")
    if shutil.disk_usage(directory).free < FULL:
        lines.append(f"The disk of {directory.resolve()} is full.")
    return "\n".join(lines)


def reason(directory: Path, run: Run) -> str:
    """Return the reason of a failure from the job's log: the last line that begins with `error:`, or the last line."""
    if run.log is None or not (directory / run.log).is_file():
        return "left no log"
    text = (directory / run.log).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    last = f"its log ends with: {lines[-1]}" if lines else "its log is empty"
    return f"ended without an error of its own, as a job does that is killed; {last}"


def _jobs(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"
