from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

Snakemake = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def snakemake() -> Snakemake:
    """Run the repository's workflow on a study; output is in `.stdout`, both streams joined."""

    def run(study: Path, *options: str) -> subprocess.CompletedProcess[str]:
        command = [
            "snakemake",
            "--snakefile",
            str(REPOSITORY / "Snakefile"),
            "--directory",
            str(study),
            *options,
        ]
        return subprocess.run(
            command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )

    return run
