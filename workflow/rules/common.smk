"""What all rules share: the study's params, checked before any job starts, and the form of a stage's command."""

import sys
from pathlib import Path

from onetok.workflow.environment import prepare_jobs, with_this_python
from onetok.errors import OnetokError
from onetok.study.plan import (
    Artefact,
    KIND_OF_STAGE,
    KINDS,
    plan,
    released_targets,
    speed_targets,
    targets,
    waiting,
)
from onetok.workflow.profile import read_machine
from onetok.study.load import load_study
from onetok.study.receipts import Made

try:
    STUDY = load_study()
    # profiles/default/machine.yaml, or `config:` of another profile
    MACHINE = read_machine(config)
except OnetokError as error:
    sys.exit(f"onetok: {error}")


prepare_jobs()

# What is made when the run begins: tables of released weights hold these rows too.
MADE = Made(STUDY, Path())


wildcard_constraints:
    family=r"[a-z0-9_]+",
    variant=r"[a-z0-9][a-z0-9-]*",


def receipts_of(kind):
    """Return an input function: the receipts that a job reads. They are the edges of the DAG."""
    return lambda wildcards: [
        artefact.receipt for artefact in job_of(kind, wildcards).inputs
    ]


def payloads_of(kind):
    """Return an input function: the large files that a job reads, which only have to exist."""
    return lambda wildcards: ancient(list(job_of(kind, wildcards).payloads))


def outputs_of(kind):
    """Return what every job of a kind writes: the receipt, and the files and folders that follow from no params."""
    folder = f"results/{kind}/{{family}}/{{variant}}"
    return [
        f"{folder}/receipt.json",
        *(
            (
                directory(f"{folder}/{output.rstrip('/')}")
                if output.endswith("/")
                else f"{folder}/{output}"
            )
            for output in KINDS[kind].outputs
        ),
    ]


def slice_of(kind):
    """Return a params function: the values that a job depends on, and its stage's version."""
    return lambda wildcards: job_of(kind, wildcards).slice


WAITING = waiting(STUDY)
SHORT = 100  # scores, tables and figures go before any training, so that people see them early


def priority_of(kind):
    """Return a priority function: the longest chain of jobs goes first, else it would end alone on one core."""
    return lambda wildcards: WAITING.get(
        Artefact(kind=kind, name=f"{wildcards.family}/{wildcards.variant}"), 0
    )


def job_of(kind, wildcards):
    try:
        return plan(STUDY, kind, f"{wildcards.family}/{wildcards.variant}", MADE)
    except OnetokError as error:
        raise WorkflowError(str(error)) from None


def stage(name):
    """Return the shell command of a stage: output to the terminal and to the log.

    The machine's values are written into the command, not into params: they are no reason to run a job again. And the
    threads are the profile's, not Snakemake's {threads}, which it lowers to the machine's cores without a word.
    """
    launch = with_this_python(
        MACHINE.launch if KIND_OF_STAGE[name].distributed else "python -m"
    )
    launch = launch.replace("{", "{{").replace("}", "}}")
    device = f"{MACHINE.device} --tf32" if MACHINE.tf32 else MACHINE.device
    return f"""
        {launch} onetok.stages.{name} {{wildcards.family}}/{{wildcards.variant}} \\
            --device {device} --threads {MACHINE.threads} \\
            --workers {MACHINE.workers} --tracker {MACHINE.tracker} \\
            2>&1 | tee {{log:q}} >&2
        """
