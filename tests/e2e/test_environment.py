"""A run is a function of its params: the same bytes in every shell, whatever libraries would read from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

TARGET = "results/figures/generation/maskgit-loss/receipt.json"  # a dataset, three trainings, tokens, curves
NUMBERS_AT_STAKE = {
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_CPU": "false",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TORCH_LOGS": "no such log",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OMP_DYNAMIC": "true",
    "OMP_THREAD_LIMIT": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MPL_IGNORE_SYSTEM_FONTS": "1",
    "SOURCE_DATE_EPOCH": "1",
    "PANDAS_FUTURE": "upcoming",
    "SCIPY_ARRAY_API": "1",
    "WDS_SEED": "3",
    "TOKENIZERS_PARALLELISM": "true",
    "LOCAL_RANK": "0",
    "RANK": "1",
    "WORLD_SIZE": "1",
    "PET_NNODES": "2",
    "PYTHONHASHSEED": "12345",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C",
    "LANG": "tr_TR.UTF-8",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TZ": "Asia/Kathmandu",
    "HF_HUB_OFFLINE": "1",
}
ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
dynamo_config: {dynamo_backend: INDUCTOR, dynamo_mode: default, dynamo_use_dynamic: false}
mixed_precision: bf16
use_cpu: false
"""
MATPLOTLIB = (
    "lines.linewidth: 9\nfont.size: 30\nfont.family: serif\naxes.facecolor: red\nsavefig.bbox: tight\n"
)


def clean() -> dict[str, str]:
    names = ("PATH", "PYTHONPATH", "HOME", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    return {name: os.environ[name] for name in names if name in os.environ}


def digests(study: Path) -> dict[str, str]:
    kept = [p for p in sorted((study / "results").rglob("*")) if p.is_file() and p.name[0] != "."]
    return {
        str(p.relative_to(study)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in kept
        if p.relative_to(study).parts[1] not in ("logs", "benchmarks", "scratch")
    }


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def snakemake(study: Path, environment: dict[str, str], *options: str) -> str:
    program = Path(sys.executable).with_name("snakemake")
    command = [str(program), "--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(study)]
    return run([*command, *options, "--", TARGET], study.parent, environment)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = tmp_path_factory.mktemp("clean") / "study"
    shutil.copytree(REPOSITORY / "tests/e2e/smallest/params", study / "params")
    snakemake(study, clean())
    return study


def test_a_hostile_shell_and_home_change_no_byte(made, tmp_path):
    """All at once, under the launcher that reads a file in the home folder, with no `python` on the path."""
    home, study = tmp_path / "home", tmp_path / "a study"
    (home / ".cache/huggingface/accelerate").mkdir(parents=True)
    (home / ".cache/huggingface/accelerate/default_config.yaml").write_text(ACCELERATE)
    (home / ".config/matplotlib").mkdir(parents=True)
    (home / ".config/matplotlib/matplotlibrc").write_bytes(MATPLOTLIB.encode() + b"# \xe9\n")
    shutil.copytree(made / "params", study / "params")
    (study / "random.py").write_text(
        "raise SystemExit('a module of the study was imported for that of Python')\n"
    )
    hostile = {**clean(), **NUMBERS_AT_STAKE, "HOME": str(home), "PATH": "/usr/bin:/bin"}
    launch = "launch=accelerate launch --num_processes 1 --module"
    snakemake(study, hostile, "--config", launch)
    assert digests(study) == digests(made)
    record = json.loads((study / "results/logs/train_generator/maskgit/tiny/run.json").read_text())
    assert record["environment"]["ignored"]["ACCELERATE_DYNAMO_BACKEND"] == "INDUCTOR"
    log = (study / "results/logs/train_generator/maskgit/tiny/log.txt").read_text()
    assert "not read from the environment: ACCELERATE_DYNAMO_BACKEND, " in log


@pytest.mark.parametrize(
    "variables",
    [
        {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
        {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7"},
        {"LOCAL_RANK": "0"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_stage_started_by_hand_reads_none_of_them(made, tmp_path, variables):
    study = tmp_path / "study"
    for folder in ("params", "results/datasets"):
        shutil.copytree(made / folder, study / folder)
    stage = ["-m", "onetok.stages.train_encoder", "classifiers/digits", "--device", "cpu", "--threads", "1"]
    run([sys.executable, *stage], study, {**clean(), **variables})
    assert digests(study).items() <= digests(made).items()


def test_dvc_and_onetok_run_without_an_activated_environment(tmp_path):
    """On a study outside the repository, from another directory; then with results that are a link to another disk."""
    repository, bare = tmp_path / "elsewhere", {**clean(), "PATH": "/usr/bin:/bin"}
    study = repository / "study"
    shutil.copytree(REPOSITORY / "tests/e2e/smallest/params", study / "params")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, repository)
    programs = Path(sys.executable).parent
    run(["git", "init", "-q"], repository, bare)
    run([str(programs / "dvc"), "init", "-q"], repository, bare)
    target = "results/datasets/labelled/digits/receipt.json"
    stage = "convert_dataset-labelled-digits"
    run([str(programs / "onetok"), "generated", "--study", "elsewhere/study"], tmp_path, bare)
    run([str(programs / "dvc"), "--cd", str(study), "repro", stage], tmp_path, bare)
    assert (study / target).exists()
    shutil.move(study / "results", tmp_path / "scratch disk")
    (study / "results").symlink_to(tmp_path / "scratch disk")
    said = run([str(programs / "onetok"), "make", "--study", "elsewhere/study", target], tmp_path, bare)
    assert "nothing to be done" in said
    assert "results" not in run(["git", "status", "--porcelain", "-uall"], repository, bare)
