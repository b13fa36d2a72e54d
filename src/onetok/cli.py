"""`onetok`: what people call beside `snakemake`. The commands are in onetok.commands."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version

from onetok.commands import images, make, new, results, store, weights
from onetok.errors import print_warnings
from onetok.workflow import environment
from onetok.workflow.exits import exit_status

MODULES = (new, make, results, store, images, weights)  # in the order of `onetok --help`


def main() -> None:
    environment.pin()
    environment.escape_unprintable_text()

    def run() -> int:
        arguments = parse(sys.argv[1:])
        print_warnings()
        return int(arguments.run(arguments))

    sys.exit(exit_status(run))


def parse(words: list[str]) -> argparse.Namespace:
    """Return the arguments of a command line; what `make` does not know itself, in its order, is Snakemake's."""
    known = parser()
    arguments, others = known.parse_known_args(words)
    if arguments.run is make.make:
        arguments.targets = others
    elif others:
        known.error(f"unrecognized arguments: {' '.join(others)}")
    return arguments


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="onetok", description="Images as short 1D token sequences, table by table."
    )
    whole.add_argument("--version", action="version", version=f"onetok {version('onetok')}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for module in MODULES:
        module.add(commands)
    return whole


if __name__ == "__main__":
    main()
