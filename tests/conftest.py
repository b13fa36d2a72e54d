"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]

# Tests start dvc, snakemake and onetok by name; `.venv/bin/pytest` finds them too where no environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
torch.set_num_threads(1)  # as the miniature; and two pytest workers must not fight for two cores


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    """A fresh copy of the smallest study."""
    study = tmp_path / "study"
    shutil.copytree(REPOSITORY / "tests/e2e/smallest/params", study / "params")
    return study
