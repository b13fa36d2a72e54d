"""`onetok reconstruct`, `generate` and `caption`: images of files, classes and captions, and captions of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from onetok.commands.parsers import Commands, add_command, add_output


def add(commands: Commands) -> None:
    command = add_command(
        commands,
        "reconstruct",
        reconstruct_images,
        "Encode images with a tokenizer and write what it decodes as PNG.",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    command.add_argument(
        "--tokenizer",
        required=True,
        help="family/variant of the study, a saved folder, or owner/name on the Hub",
    )
    command.add_argument(
        "--text", action="append", help="caption, once for each image, for tokenizers that read captions"
    )
    add_output(command)
    command = add_command(
        commands,
        "generate",
        generate_images,
        "Draw images of classes or captions with a generator and write them as PNG.",
    )
    command.add_argument(
        "--generator",
        required=True,
        help="family/variant of the study, or owner/name on the Hub of one that params know",
    )
    settings = command.add_mutually_exclusive_group(required=True)
    settings.add_argument("--samples", metavar="NAME", help="samples of the study whose settings are taken")
    settings.add_argument("--sampling", metavar="YAML", help="the settings, as `sampling` in params")
    subjects = command.add_mutually_exclusive_group(required=True)
    subjects.add_argument(
        "--class", dest="subjects", action="append", type=int, metavar="N", help="may be repeated"
    )
    subjects.add_argument(
        "--prompt", dest="subjects", action="append", metavar="TEXT", help="caption; may be repeated"
    )
    command.add_argument(
        "--aesthetic",
        type=float,
        help="score that images of captions shall have (default: that of --samples)",
    )
    command.add_argument("--count", type=int, default=1, help="images of each class or caption (default: 1)")
    command.add_argument(
        "--seed",
        type=int,
        required=True,
        help="an image is a function of seed, class or caption with its score, and number",
    )
    add_output(command)
    command = add_command(
        commands, "caption", caption_images, "Print a caption of each image, as a line of JSON."
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    command.add_argument("--captioner", required=True, metavar="NAME", help="family/variant of the study")
    command.add_argument(
        "--captions", metavar="NAME", help="captions of the study whose settings are taken (default: NAME)"
    )
    command.add_argument(
        "--seed", type=int, default=0, help="a caption is a function of seed and image (default: 0)"
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, …")


def reconstruct_images(arguments: argparse.Namespace) -> int:
    from onetok.api.reconstruct import reconstruct

    lines = reconstruct(
        arguments.images,
        tokenizer=arguments.tokenizer,
        text=arguments.text,
        out=arguments.out,
        device=arguments.device,
        study=arguments.study,
    )
    print("\n".join(lines))
    return 0


def generate_images(arguments: argparse.Namespace) -> int:
    from onetok.api.generator import generate

    lines = generate(
        arguments.subjects,
        generator=arguments.generator,
        samples=arguments.samples,
        sampling=arguments.sampling,
        aesthetic=arguments.aesthetic,
        count=arguments.count,
        seed=arguments.seed,
        out=arguments.out,
        device=arguments.device,
        study=arguments.study,
    )
    print("\n".join(lines))
    return 0


def caption_images(arguments: argparse.Namespace) -> int:
    from onetok.api.captioner import caption

    lines = caption(
        arguments.images,
        captioner=arguments.captioner,
        captions=arguments.captions,
        seed=arguments.seed,
        device=arguments.device,
        study=arguments.study,
    )
    print("\n".join(lines))
    return 0
