"""What the shell holds: removed, refused, or recorded."""

from __future__ import annotations

import io
import os
import sys

import pytest

from onetok.errors import OnetokError
from onetok.workflow import environment


@pytest.fixture
def shell(monkeypatch):
    """An environment of its own: what is set in it by a test is what a stage would find."""
    held: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", held)
    monkeypatch.setattr(environment, "removed", {})
    return held


def left(held: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in held.items() if name != "PYTEST_CURRENT_TEST"}


def test_variables_that_choose_what_is_computed_are_removed_and_named(shell):
    shell |= {
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
        "ACCELERATE_MIXED_PRECISION": "no",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": "somewhere",
        "OMP_DYNAMIC": "true",
    }
    environment.pin()
    assert left(shell) == {"MATPLOTLIBRC": os.devnull}
    assert environment.removed_with_effect() == [
        "ACCELERATE_DYNAMO_BACKEND",
        "MATPLOTLIBRC",
        "MPLBACKEND",
        "OMP_DYNAMIC",
        "ONEDNN_DEFAULT_FPMATH_MODE",
    ]
    assert environment.record()["ignored"]["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"] == "1"


def test_variables_of_the_machine_stay_and_are_recorded_without_secrets(shell):
    kept = {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "CUDA_VISIBLE_DEVICES": "0",
        "TORCH_NCCL_BLOCKING_WAIT": "1",
        "TORCH_HOME": "/scratch",
        "NVIDIA_API_KEY": "abc",
        "HF_TOKEN": "def",
    }
    shell |= kept
    environment.pin()
    assert shell.items() >= kept.items()
    recorded = environment.record()
    assert recorded["ignored"] == {}
    assert recorded["set"]["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    assert recorded["set"]["NVIDIA_API_KEY"] == "(not shown)"
    assert "HF_TOKEN" not in recorded["set"]


def test_what_a_launcher_of_one_process_left_is_forgotten(shell):
    shell |= {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "gone", "MASTER_PORT": "1"}
    environment.check("train_encoder", distributed=True)
    assert left(shell) == {}


def test_a_rank_without_a_number_of_processes_is_forgotten(shell):
    shell |= {"LOCAL_RANK": "3", "RANK": "3"}
    environment.check("score_samples", distributed=False)
    assert left(shell) == {}


TWO = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_several_processes_go_to_the_stages_that_share_work(shell):
    shell |= TWO
    environment.check("train_encoder", distributed=True)
    assert left(shell) == TWO
    with pytest.raises(
        OnetokError, match=r"score_samples runs in one process, but WORLD_SIZE=2 says .* unset"
    ):
        environment.check("score_samples", distributed=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', expected a whole number"),
        ({"WORLD_SIZE": "0", "PMI_SIZE": "4"}, "PMI_SIZE=4, but"),
        ({"MASTER_ADDR": None}, "WORLD_SIZE=2, but not MASTER_ADDR; start several processes with"),
        ({"RANK": "2"}, "RANK=2, expected 0 to 1"),
    ],
)
def test_what_no_launcher_means_is_one_line(shell, change, message):
    shell |= TWO
    for name, value in change.items():
        shell.pop(name) if value is None else shell.update({name: value})
    with pytest.raises(OnetokError) as error:
        environment.check("train_encoder", distributed=True)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_python_in_a_launch_prefix_is_the_one_that_runs_snakemake(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/a folder/python3.11")
    assert environment.with_this_python("python -m") == "'/a folder/python3.11' -m"
    assert environment.with_this_python("python") == "'/a folder/python3.11'"
    assert environment.with_this_python("accelerate launch --module") == "accelerate launch --module"


def test_file_names_that_are_not_read_as_utf_8_are_refused(shell, monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(OnetokError, match=r"file names are read as iso8859-1 here.*PYTHONUTF8=1"):
        environment.check("convert_dataset", distributed=False)


def test_text_for_people_never_fails_on_an_encoding(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    environment.escape_unprintable_text()
    print("zażółć \u2192", flush=True)
    assert terminal.buffer.getvalue() == b"za\\u017c\\xf3\\u0142\\u0107 \\u2192\n"


def test_a_job_knows_what_snakemake_removed(shell, monkeypatch):
    shell |= {"PATH": "/usr/bin", "TORCH_LOGS": "no such log"}
    monkeypatch.setattr(sys, "executable", "/somewhere/bin/python3.11")
    environment.prepare_jobs()
    assert "TORCH_LOGS" not in shell and shell["PATH"] == "/somewhere/bin:/usr/bin"
    monkeypatch.setattr(environment, "removed", {})
    environment.pin()
    assert environment.removed_with_effect() == ["TORCH_LOGS"]
