"""The spread of a study's figures over retrainings, recorded in evidence/spread/: `onetok compare` derives prediction
intervals from it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

# Paths below a study's folder.
KEPT = Path("evidence/spread")
MACHINES = Path("evidence/machine.json")


def first_problem(error: ValidationError) -> str:
    """Return where a kept file is not what was written, and what is wrong there, as part of a message."""
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'content'}: {detail['msg'].lower()}"
