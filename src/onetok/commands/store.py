"""`onetok publish`, `restore`, `adopt`, `generated` and `site`: what git and DVC keep, and the pages made of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from onetok import durable
from onetok.commands.make import REPOSITORY, touch
from onetok.commands.parsers import Commands, add_command
from onetok.errors import OnetokError
from onetok.report.generated import repository_files, study_files
from onetok.store import publish
from onetok.store.adopt import find_adoptable, set_aside

SITE = "Build the site of all pages of the repository; a dead link is an error."


def add(commands: Commands) -> None:
    command = add_command(
        commands,
        "publish",
        publish_results,
        "Verify, commit payloads to DVC, push, and copy what git keeps to evidence/.",
    )
    command.add_argument("--no-push", action="store_true", help="do not push to the DVC remote")
    command.add_argument("--replace", action="store_true", help="replace evidence that is not in git, too")
    add_command(
        commands,
        "restore",
        restore_results,
        "Pull payloads from the DVC remote and copy evidence/, so that nothing is made again.",
    ).add_argument("--replace", action="store_true", help="replace results that were not published, too")
    add_command(
        commands,
        "adopt",
        adopt_results,
        "Take over results that were copied here: what verifies is made, what does not is named and left to be made.",
    )
    add_command(
        commands,
        "generated",
        generated,
        "Make a study's dvc.yaml again from its params; in the repository itself also the JSON schema, the conda"
        " environment, the pages that are made from the schema, from decisions and from the miniature's evidence, and"
        " the miniature's dvc.yaml.",
    )

    command = commands.add_parser("site", help=SITE, description=SITE)
    command.set_defaults(run=site)
    command.add_argument(
        "--out", type=Path, default=Path("results/site"), help="folder of the site (default: results/site)"
    )


def site(arguments: argparse.Namespace) -> int:
    from onetok.report.site import build_site

    build_site(REPOSITORY, arguments.out)
    print(f"{arguments.out / 'index.html'}: written")
    return 0


def publish_results(arguments: argparse.Namespace) -> int:
    publish.publish(arguments.study, push=not arguments.no_push, replace=arguments.replace)
    return 0


def restore_results(arguments: argparse.Namespace) -> int:
    publish.restore(arguments.study, replace=arguments.replace)
    return touch(arguments.study, [])


def adopt_results(arguments: argparse.Namespace) -> int:
    verified, refused, left = find_adoptable(arguments.study)
    for line in left:
        print(f"left to be made: {line}")
    if not verified:
        raise OnetokError(f"{arguments.study / 'results'}: no artefact verifies, nothing is taken over")
    set_aside(arguments.study, refused)
    status = touch(arguments.study, verified)
    if status == 0:
        print(f"{len(verified)} artefacts are taken over as they are, {len(left)} are left to be made")
    return status


def generated(arguments: argparse.Namespace) -> int:
    directory = arguments.study.resolve()
    files = repository_files(REPOSITORY) if directory == REPOSITORY else study_files(directory)
    for path, content in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            durable.write_text(path, content)
            print(f"{path.relative_to(directory)}: written")
    return 0
