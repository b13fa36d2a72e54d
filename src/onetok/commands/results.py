"""What is known of a study and its results: `onetok list`, `status`, `index`, `check`, `verify` and `compare`."""

from __future__ import annotations

import argparse

from onetok.commands.make import receipts_of
from onetok.commands.parsers import Commands, add_command, add_released
from onetok.errors import OnetokError
from onetok.store.dvc_yaml import stale_dvc_yaml
from onetok.study.load import load_study
from onetok.study.plan import all_jobs, artefact_at, jobs_behind, released_targets, targets
from onetok.study.receipts import Made, verify
from onetok.workflow.needs import missing_needs


def add(commands: Commands) -> None:
    add_command(
        commands,
        "list",
        list_study,
        "List what params define, by kind and name: whether it is made, stale or not made, whether released weights are"
        " pinned, and the score that is expected.",
    ).add_argument(
        "kinds", nargs="*", metavar="KIND", help="such as tokenizers, samples or tables (default: all)"
    )
    add_command(
        commands,
        "status",
        show_status,
        "Say what of a study is made, running, failed (with the end of the log), stale, and not made.",
    )
    add_command(
        commands,
        "index",
        index,
        "Write results/index.html: every table and picture, settings, receipts and runs, on one page.",
    )
    command = add_command(
        commands,
        "check",
        check,
        "Check the params of a study and what its targets need from outside: folders of images, pinned weights."
        " Say nothing if a run can start.",
    )
    command.add_argument(
        "targets",
        nargs="*",
        help="receipts below results/, or tables as family/variant (default: every table and figure)",
    )
    add_released(command, "check tables without the rows that have to be trained")
    command = add_command(
        commands, "verify", verify_results, "Check every receipt against params, inputs and files."
    )
    add_released(
        command, "check tables without the rows that have to be trained, and what they are made from"
    )
    command = add_command(
        commands,
        "compare",
        compare,
        "Say for each table whether results/ is what evidence/ holds, or as near as a rerun.",
    )
    command.add_argument(
        "--figures", action="store_true", help="print every figure, not only those that stand out"
    )
    add_released(command, "compare tables without the rows that have to be trained")


def list_study(arguments: argparse.Namespace) -> int:
    from onetok.workflow.states import list_names

    print(list_names(load_study(arguments.study), arguments.study, arguments.kinds))
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    from onetok.workflow.states import status

    print("\n".join(status(load_study(arguments.study), arguments.study)))
    return 0


def index(arguments: argparse.Namespace) -> int:
    from onetok.report.index_page import write_index

    print(write_index(load_study(arguments.study), arguments.study))
    return 0


def check(arguments: argparse.Namespace) -> int:
    study, directory = load_study(arguments.study), arguments.study
    made = Made(study, directory)
    asked = [target for target in arguments.targets if target != "all"]
    paths = receipts_of(study, directory, asked, released=arguments.released)
    found = [(target, artefact_at(path)) for target, path in zip(asked, paths, strict=True)]
    if unknown := [target for target, artefact in found if artefact is None]:
        raise OnetokError(f"{unknown[0]}: no target, expected results/<kind>/<family>/<variant>/receipt.json")
    wanted = [artefact for _, artefact in found if artefact is not None]
    if not arguments.targets or "all" in arguments.targets:
        wanted = released_targets(study, made) if arguments.released else targets(study)
    jobs = jobs_behind(study, wanted, made)
    unmade = [job.artefact for job in jobs if verify(job, directory, digests=False)]
    lines = missing_needs(study, unmade, directory)
    if lines:
        print("\n  ".join(["missing before the first job:", *lines]))
    stale = stale_dvc_yaml(study, directory)
    if stale is not None:
        print(stale)
    return 1 if lines or stale is not None else 0


def verify_results(arguments: argparse.Namespace) -> int:
    study = load_study(arguments.study)
    jobs = list(all_jobs(study))
    if arguments.released:
        made = Made(study, arguments.study)
        jobs = list(jobs_behind(study, released_targets(study, made), made))
    problems = [line for job in jobs for line in verify(job, arguments.study, digests=True)]
    for line in problems:
        print(line)
    if not problems:
        print(f"{len(jobs)} artefacts are what params, inputs and receipts say")
    return 1 if problems else 0


def compare(arguments: argparse.Namespace) -> int:
    from onetok.report.comparison import report

    lines, failed = report(
        load_study(arguments.study),
        arguments.study,
        every_figure=arguments.figures,
        released=arguments.released,
    )
    print("\n".join(lines))
    return int(failed)
