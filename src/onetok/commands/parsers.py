"""What the parsers of several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Commands = Any  # argparse's action for sub-commands, whose class is private
Command = Callable[[argparse.Namespace], int]  # returns the exit status


def add_command(commands: Commands, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    """Add a command about a study, and return its parser."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("--study", type=Path, default=Path(), help="the study's directory (default: here)")
    return command


def add_released(command: argparse.ArgumentParser, text: str) -> None:
    """Add the option that asks for tables of released weights."""
    command.add_argument("--released", action="store_true", help=f"{text} (results/released/)")


def add_output(command: argparse.ArgumentParser) -> None:
    """Add what every command takes that computes images and writes them."""
    command.add_argument(
        "--out", required=True, type=Path, help="a .png for one image, a folder for several (made if missing)"
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, …")
