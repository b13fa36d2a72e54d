"""The common frame of all stages: arguments, device, threads, verified inputs, receipt, and a record of the run."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from threadpoolctl import threadpool_limits

from onetok import durable
from onetok.errors import OnetokError
from onetok.stages.common.machine import machine_record
from onetok.study.load import load_study
from onetok.study.plan import KIND_OF_STAGE, Job, plan
from onetok.study.receipts import Made, check_inputs, scratch_folder, write_receipt
from onetok.study.schema.study import Study
from onetok.workflow import environment
from onetok.workflow.exits import exit_status


@dataclass(frozen=True)
class Context:
    """The arguments of a stage: its study, its job, and the resources of the profile."""

    study: Study
    job: Job
    device: torch.device
    workers: int  # processes that read data, for each training process
    tracker: str  # tensorboard, wandb or none

    @property
    def folder(self) -> Path:
        """The folder of the artefact."""
        return Path(self.job.artefact.folder)

    @cached_property
    def scratch(self) -> Path:
        """The folder of intermediate state, from which an interrupted run resumes; removed once the job is done."""
        return scratch_folder(self.job, Path())

    @property
    def logs(self) -> Path:
        """The folder of the job's logs."""
        return Path("results/logs") / self.job.stage / self.job.name

    @cached_property
    def processes(self) -> PartialState:
        """The processes of this job."""
        # A long timeout, because the other processes wait while the main one writes shards or scores.
        return PartialState(cpu=self.device.type == "cpu", timeout=timedelta(days=1))


def main(stage: str, work: Callable[[Context], None]) -> None:
    """Run a stage's `work` for the job that the command line names, and exit with its status."""
    environment.escape_unprintable_text()
    arguments = _arguments(stage)

    def run() -> int:
        environment.check(stage, distributed=KIND_OF_STAGE[stage].distributed)
        _run(stage, work, arguments)
        return 0

    sys.exit(exit_status(run))


def _arguments(stage: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m onetok.stages.{stage}")
    parser.add_argument("name", help="family/variant, as in params/")
    parser.add_argument("--device", required=True, choices=["cpu", "cuda"])
    parser.add_argument(
        "--threads",
        required=True,
        type=_count(1),
        help="CPU threads; another number gives other low bits",
    )
    parser.add_argument(
        "--workers", type=_count(0), default=0, help="processes that read training data (same bytes)"
    )
    parser.add_argument(
        "--tf32",
        action="store_true",
        help="float32 products of a GPU by TensorFloat-32: faster, 10 bits of mantissa",
    )
    parser.add_argument("--tracker", choices=["tensorboard", "wandb", "none"], default="none")
    return parser.parse_args()


def _count(least: int) -> Callable[[str], int]:
    """Return a parser of command-line integers from `least` to 1024."""

    def integer(text: str) -> int:
        if not (text.isdecimal() and text.isascii() and least <= int(text) <= 1024):
            raise argparse.ArgumentTypeError(f"found {text!r}, expected an integer from {least} to 1024")
        return int(text)

    return integer


def _run(stage: str, work: Callable[[Context], None], arguments: argparse.Namespace) -> None:
    started = time.time()
    _pin_threads(arguments.threads)
    study = load_study()
    job = plan(study, KIND_OF_STAGE[stage].name, arguments.name, Made(study, Path()))
    device = open_device(arguments.device)
    set_tf32(arguments.tf32, device)
    context = Context(study, job, device, arguments.workers, arguments.tracker)
    with context.processes.main_process_first():  # it writes an index of digests, which the others use
        read = check_inputs(job, Path())
    if context.processes.is_main_process:
        if ignored := environment.removed_with_effect():
            print(f"{stage} {job.name}: not read from the environment: {', '.join(ignored)}", file=sys.stderr)
        _clear(context)
    context.processes.wait_for_everyone()
    work(context)
    context.processes.wait_for_everyone()
    if context.processes.is_main_process:
        _record(context, started)
        receipt = write_receipt(job, Path(), read)
        shutil.rmtree(context.scratch, ignore_errors=True)
        print(f"{stage} {job.name}: {receipt} ({time.time() - started:.0f} s)", file=sys.stderr, flush=True)
    context.processes.destroy_process_group()


def open_device(name: str) -> torch.device:
    """Return the device that the profile asks for, and on a CPU require deterministic algorithms.

    Raises OnetokError for "cuda" where PyTorch finds no GPU; there is no fallback to the CPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise OnetokError(
            "device: the profile asks for cuda, but torch finds no GPU here; set device: cpu to use none"
        )
    if name == "cpu":
        torch.use_deterministic_algorithms(True)
    return torch.device(name)


def set_tf32(wanted: bool, device: torch.device) -> None:
    """Set whether a GPU computes float32 in TF32. PyTorch's default is TF32 for convolutions, not for products.

    Raises OnetokError where it is wanted and the device has none.
    """
    if wanted and device.type != "cuda":
        raise OnetokError(f"tf32: the profile asks for it, but device {device} has none; set tf32: false")
    torch.backends.cuda.matmul.allow_tf32 = wanted
    torch.backends.cudnn.allow_tf32 = wanted


def _pin_threads(threads: int) -> None:
    environment.set_threads(threads)
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


def _clear(context: Context) -> None:
    """Remove outputs of an earlier run, the receipt first, so that no incomplete artefact looks complete."""
    Path(context.job.artefact.receipt).unlink(missing_ok=True)
    for output in context.job.outputs:
        path = context.folder / output
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:  # of a link only the link, as Snakemake does, because others may need its target
            path.unlink(missing_ok=True)
    context.folder.mkdir(parents=True, exist_ok=True)
    for folder in (context.folder, context.scratch):
        durable.remove_partial(folder)
    context.logs.mkdir(parents=True, exist_ok=True)


def _record(context: Context, started: float) -> None:
    """Write run.json: host, time and machine, which a receipt must not hold, since it is the same on all machines."""
    record: dict[str, Any] = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": round(time.time() - started, 3),
        "host": platform.node(),
        "cores": os.cpu_count(),
        "processes": context.processes.num_processes,
        "device": str(context.device),
        "git": _git_commit(),
        "machine": machine_record(context.device),
        "environment": environment.record(),
    }
    durable.write_json(context.logs / "run.json", record, sort_keys=False)


def _git_commit() -> str | None:
    """Return the commit of this package's git repository; None without git or a repository."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return found.stdout.strip() or None
