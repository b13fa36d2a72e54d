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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Snakemake as slow: a dry run of a study takes several seconds, and most tests do a few."""
    for item in items:
        if "snakemake" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
