"""Generates a study's dvc.yaml from its plan: one DVC stage for each artefact, with the receipts that it depends on.

Snakemake defines the commands, DVC stores the hashes. Every DVC stage runs `onetok make`, depends on receipts and never
on code or payloads, and keeps its outputs (`persist`), because DVC would otherwise delete them before it runs a stage.
DVC reads the tracked params from params/ whenever it runs. The version of the onetok stage is a comment in the command,
so that DVC repeats a stage whose version has been raised.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from onetok.study.load import place
from onetok.study.pins import FILE as PINS_FILE
from onetok.study.pins import pin_key, weights_of
from onetok.study.plan import KINDS, Artefact, Job, all_jobs, jobs_behind
from onetok.study.references import references
from onetok.study.schema.study import Study

# Small outputs for people, of which git keeps copies in evidence/.
EVIDENCE = (
    "accuracy.json",
    "contact-sheet.png",
    "figure.png",
    "report.json",
    "reconstructions.png",
    "scalars.csv",
    "scores.json",
    "table.csv",
    "table.md",
    "table.tex",
)

IN_GIT = frozenset(("receipt.json", *EVIDENCE))  # files of evidence/, which DVC hashes and does not store

HEADER = """\
# Made from params/ by `onetok generated`, do not edit: the artefacts of this study for DVC (docs/how-to/dvc.md).
"""

# A shell expression for the onetok of the environment whose Python runs DVC, whether or not it is activated: Python is
# the first word of the command line of the shell's parent process. Without /proc it is the onetok on the PATH.
ONETOK = """PATH="$(dirname "$(tr '\\0' '\\n' </proc/$PPID/cmdline | head -n 1)"):$PATH" onetok"""


def dvc_yaml(study: Study) -> str:
    """Return the content of a study's dvc.yaml."""
    stages = {stage_name(job.artefact): _stage(study, job) for job in all_jobs(study)}
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 4096  # so that no key or command is broken into lines
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump({"vars": [{"onetok": ONETOK}], "stages": stages}, stream)
    return f"{HEADER}\n{stream.getvalue()}"


def stale_dvc_yaml(study: Study, directory: Path) -> str | None:
    """Return an error line if dvc.yaml differs from what the params give; None if it is up to date or missing."""
    path = directory / "dvc.yaml"
    if not path.exists() or path.read_text(encoding="utf-8") == dvc_yaml(study):
        return None
    where = "" if directory.resolve() == Path.cwd() else f" --study {directory}"
    return f"{path}: stale, it is not what today's params give; make it again: onetok generated{where}"


def stage_name(artefact: Artefact) -> str:
    """Return the name of an artefact's stage in dvc.yaml."""
    return f"{artefact.stage}-{artefact.name.replace('/', '-')}"


def _stage(study: Study, job: Job) -> dict[str, Any]:
    stage: dict[str, Any] = {
        "cmd": f"${{onetok}} make {job.artefact.receipt} # version {job.version} of {job.stage}",
        "params": [{file: keys} for file, keys in _tracked(study, job).items()],
    }
    if job.inputs:
        stage["deps"] = [needed.receipt for needed in job.inputs]
    outputs = ("receipt.json", *job.outputs)
    stage["outs"] = [{f"{job.artefact.folder}/{output}": _keeping(output)} for output in outputs]
    return stage


def _keeping(output: str) -> CommentedMap:
    """Return DVC's settings of an output, as one line of YAML."""
    keeping = CommentedMap({"cache": False} if output in IN_GIT else {})
    keeping["persist"] = True
    keeping.fa.set_flow_style()
    return keeping


def _tracked(study: Study, job: Job) -> dict[str, list[str]]:
    """Return the params keys that a job depends on, by params file."""
    found: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(_entries(study, job)):
        file, key = place(kind, name).split(": ", 1)
        found.setdefault(file, []).append(key)
        for weights in weights_of(getattr(study, kind)[name]).values():
            if (pinned := pin_key(weights.hub or "", weights.file)) in study._pinned:
                found.setdefault(PINS_FILE, []).append(f"pins.{pinned}")
    return found


def _entries(study: Study, job: Job) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of a job's own entry and of entries that it names, such as benchmarks.

    Entries that a receipt among its inputs depends on already are left out.
    """
    source = KINDS[job.artefact.kind].source
    yield source, job.name
    behind = {(made.artefact.kind, made.name) for made in jobs_behind(study, job.inputs)}
    for _, kind, name in references(getattr(study, source)[job.name]):
        if (kind, name) not in behind:
            yield kind, name
