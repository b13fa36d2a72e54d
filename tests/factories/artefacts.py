"""Artefacts with receipts that hold, whose files hold nothing: for what asks only whether something is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onetok.study.plan import Artefact, jobs_behind
from onetok.study.receipts import Made, check_inputs, write_receipt
from onetok.study.schema.study import Study


def pretend_made(
    study: Study, directory: Path, artefact: Artefact, scores: dict[str, Any] | None = None
) -> None:
    """Leave an artefact, and all that it is made from and is not there yet, with `scores` in its scores.json."""
    made = Made(study, directory)
    for job in jobs_behind(study, [artefact], made):
        if (directory / job.artefact.receipt).exists():
            continue
        folder = directory / job.artefact.folder
        folder.mkdir(parents=True, exist_ok=True)
        for output in job.outputs:
            content = scores if output == "scores.json" and scores is not None else {}
            (folder / output).write_text(json.dumps(content))
        write_receipt(job, directory, check_inputs(job, directory))
