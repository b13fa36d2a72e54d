"""`onetok pin`: the exact versions of released weights."""

from __future__ import annotations

import argparse
import json
import sys

from onetok import durable
from onetok.commands.parsers import Commands, add_command
from onetok.errors import OnetokError
from onetok.store.dvc_yaml import dvc_yaml
from onetok.study.load import load_study
from onetok.study.pins import FILE


def add(commands: Commands) -> None:
    command = add_command(
        commands,
        "pin",
        pin,
        "Print the weights line of params that pins a file on the Hub; or, with --all, look up all files on the Hub"
        " that params name, and print how params/pins.yaml would change.",
    )
    command.add_argument("hub", metavar="HUB", nargs="?", help="owner/name of the repository")
    command.add_argument("file", metavar="FILE", nargs="?", help="path of the file in the repository")
    command.add_argument("--revision", default="main", help="branch, tag or commit of HUB (default: main)")
    command.add_argument("--all", action="store_true", help="every file on the Hub that params name")
    command.add_argument(
        "--write", action="store_true", help="write what is null to params/pins.yaml (--all)"
    )
    command.add_argument(
        "--update", action="store_true", help="pin anew what is another file on the Hub today (--all)"
    )


def pin(arguments: argparse.Namespace) -> int:
    from onetok.release.download import find_pin

    if arguments.all != (arguments.hub is None) or (arguments.hub is None) != (arguments.file is None):
        raise OnetokError("pin: expected HUB and FILE, or --all")
    if arguments.all:
        return pin_all(arguments)
    if arguments.write or arguments.update:
        raise OnetokError("pin: --write and --update go with --all")
    found = find_pin(arguments.hub, arguments.file, arguments.revision)
    weights = {"hub": arguments.hub, "revision": found.revision, "url": None}
    weights |= {"file": arguments.file, "sha256": found.sha256}
    print(f"weights: {json.dumps(weights)}")  # JSON is YAML, and its quotes keep a digest text
    return 0


def pin_all(arguments: argparse.Namespace) -> int:
    from onetok.release.pins import look_up

    found = look_up(load_study(arguments.study), arguments.study, update=arguments.update)
    for line in found.problems:
        print(f"not looked up: {line}", file=sys.stderr)
    for line in found.moved:
        print(
            f"pinned anew: {line}"
            if arguments.update
            else f"changed on the Hub: {line}; --update pins it anew"
        )
    print(found.diff, end="")
    if found.diff and arguments.write:
        durable.write_text(arguments.study / FILE, found.after)
        print(f"{arguments.study / FILE}: written")
        if (arguments.study / "dvc.yaml").exists():
            durable.write_text(arguments.study / "dvc.yaml", dvc_yaml(load_study(arguments.study)))
    if not (found.problems or found.moved or found.diff):
        print(f"{FILE}: every file that params name is pinned, and is the same on the Hub today")
    unwritten = found.diff and not arguments.write
    return int(bool(found.problems or unwritten or (found.moved and not arguments.update)))
