"""`onetok new`: a study of one's own images."""

from __future__ import annotations

import argparse
from pathlib import Path

from onetok.commands.parsers import Commands


def add(commands: Commands) -> None:
    text = "Write a study of one's own images: look at a folder, and work out classes, splits and numbers from it."
    command = commands.add_parser("new", help=text, description=text)
    command.set_defaults(run=new)
    command.add_argument("study", type=Path, metavar="STUDY", help="the directory to write, as studies/birds")
    command.add_argument(
        "--images",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="of sub-folders, one for each class; or of images alone",
    )
    command.add_argument(
        "--captions",
        action="store_true",
        help="train a generator of captions, which are .txt files beside images",
    )
    command.add_argument(
        "--size", type=int, help="side of the images in pixels (default: 64, or that of --from)"
    )
    command.add_argument(
        "--from",
        dest="start",
        metavar="NAME",
        help="fine-tune a model: the folder of a trained tokenizer or generator in results/ of a study, or the name of"
        " a released tokenizer (default: train new ones)",
    )
    command.add_argument(
        "--max-bad-share",
        type=float,
        metavar="SHARE",
        help="leave out files that are no images, up to this share of all (default: one is an error)",
    )


def new(arguments: argparse.Namespace) -> int:
    from onetok.scaffold.new_study import new_study

    lines = new_study(
        arguments.study,
        arguments.images,
        captions=arguments.captions,
        size=arguments.size,
        start=arguments.start,
        max_bad_share=arguments.max_bad_share,
    )
    print("\n".join(lines))
    return 0
