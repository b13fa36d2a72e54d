"""`onetok`: what people call beside `snakemake`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onetok import durable
from onetok.errors import OnetokError, print_warnings
from onetok.report.generated import repository_files, study_files
from onetok.store import publish
from onetok.store.adopt import find_adoptable, set_aside
from onetok.store.dvc_yaml import dvc_yaml, stale_dvc_yaml
from onetok.study.load import load_study
from onetok.study.pins import FILE as PINS_FILE
from onetok.study.plan import (
    Artefact,
    all_jobs,
    artefact_at,
    jobs_behind,
    released_targets,
    targets,
)
from onetok.study.receipts import Made, verify
from onetok.study.schema.study import Study
from onetok.workflow import environment
from onetok.workflow.exits import exit_status
from onetok.workflow.needs import missing_needs

REPOSITORY = Path(__file__).resolve().parents[2]


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
    parser = _parser()
    arguments, others = parser.parse_known_args(words)
    if arguments.run is make:
        arguments.targets = others
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onetok", description="Images as short 1D token sequences, table by table."
    )
    parser.add_argument("--version", action="version", version=f"onetok {version('onetok')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        command.add_argument(
            "--study", type=Path, default=Path(), help="the study's directory (default: here)"
        )
        return command

    _add_new(commands)
    command = add(
        "make",
        make,
        "Make targets with Snakemake: the repository's Snakefile in the study's folder. Targets are paths below"
        " results/ or tables as family/variant (default: every table and figure); options of Snakemake, such as -n or"
        " --cores 1, are passed on.",
    )
    command.usage = "onetok make [--study STUDY] [--released] [TARGET ...] [options of Snakemake]"
    command.allow_abbrev = False
    _add_released(command, "make these tables without the rows that have to be trained")
    add(
        "list",
        list_study,
        "List what params define, by kind and name: whether it is made, stale or not made, whether released weights are"
        " pinned, and the score that is expected.",
    ).add_argument(
        "kinds", nargs="*", metavar="KIND", help="such as tokenizers, samples or tables (default: all)"
    )
    add(
        "status",
        show_status,
        "Say what of a study is made, running, failed (with the end of the log), stale, and not made.",
    )
    add(
        "index",
        index,
        "Write results/index.html: every table and picture, settings, receipts and runs, on one page.",
    )
    command = add(
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
    _add_released(command, "check tables without the rows that have to be trained")
    command = add("verify", verify_results, "Check every receipt against params, inputs and files.")
    _add_released(
        command, "check tables without the rows that have to be trained, and what they are made from"
    )
    command = add(
        "compare",
        compare,
        "Say for each table whether results/ is what evidence/ holds, or as near as a rerun.",
    )
    command.add_argument(
        "--figures", action="store_true", help="print every figure, not only those that stand out"
    )
    _add_released(command, "compare tables without the rows that have to be trained")
    add(
        "spread",
        spread_study,
        "Run a study under other seeds and instruction sets, and keep its figures in evidence/spread/.",
    ).add_argument("--runs", nargs="+", metavar="NAME", help="of the study's spread in params (default: all)")
    command = add(
        "publish",
        publish_results,
        "Verify, commit payloads to DVC, push, and copy what git keeps to evidence/.",
    )
    command.add_argument("--no-push", action="store_true", help="do not push to the DVC remote")
    command.add_argument("--replace", action="store_true", help="replace evidence that is not in git, too")
    add(
        "restore",
        restore_results,
        "Pull payloads from the DVC remote and copy evidence/, so that nothing is made again.",
    ).add_argument("--replace", action="store_true", help="replace results that were not published, too")
    add(
        "adopt",
        adopt_results,
        "Take over results that were copied here: what verifies is made, what does not is named and left to be made.",
    )
    add(
        "generated",
        generated,
        "Make a study's dvc.yaml again from its params; in the repository itself also the JSON schema, the conda"
        " environment, the README's tables and the dvc.yaml of the miniature.",
    )
    command = add(
        "reconstruct", reconstruct_images, "Encode images with a tokenizer and write what it decodes as PNG."
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
    _add_output(command)
    command = add(
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
    _add_output(command)
    command = add(
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
    return parser


def _add_released(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--released", action="store_true", help=f"{text} (results/released/)")


def _add_new(commands: Any) -> None:
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


def _add_output(command: argparse.ArgumentParser) -> None:
    """Add what every command takes that computes images and writes them."""
    command.add_argument(
        "--out", required=True, type=Path, help="a .png for one image, a folder for several (made if missing)"
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, …")


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


def make(arguments: argparse.Namespace) -> int:
    asked: list[str] = arguments.targets
    if (arguments.study / "params").is_dir():
        asked = _paths(load_study(arguments.study), arguments.study, asked, released=arguments.released)
    if arguments.released and not any("/" in word or word == "released" for word in asked):
        asked = ["released", *asked]
    if is_made(arguments.study, asked):
        print("nothing to be done: receipts, params and sizes agree")
        return 0
    return run_snakemake(arguments.study, asked)


def _paths(study: Study, directory: Path, asked: list[str], *, released: bool) -> list[str]:
    """Return what is asked for as Snakemake's targets and options: tables that stand there by name as receipts.

    Words without a slash are targets such as `all`, options of Snakemake, or values of these.

    Raises OnetokError where the rows of released weights of something else, or of a table without any, are asked for.
    """
    if not released:
        return [_table(study, "tables", word) or word for word in asked]
    found = []
    for word in asked:
        table = _table(study, "released", word)
        if table is None and "/" in word and not word.startswith("-"):
            known = ", ".join(study.tables)
            raise OnetokError(f"{word}: no table, expected one of {known}, or all (--released)")
        if table is not None:
            made = Made(study, directory)
            if artefact_at(table) not in released_targets(study, made):
                raise OnetokError(f"{word}: all of its rows have to be trained, and none of them is made")
        found.append("released" if word == "all" else table or word)
    return found


def _table(study: Study, kind: str, word: str) -> str | None:
    """Return the receipt of a table that is named by its name or a receipt; None for anything else."""
    artefact = artefact_at(word) or Artefact(kind="tables", name=word)
    if artefact.kind not in ("tables", "released") or artefact.name not in study.tables:
        return None
    return Artefact(kind=kind, name=artefact.name).receipt


def is_made(directory: Path, targets: list[str]) -> bool:
    """Return whether all targets are receipts that hold, down to the data: then Snakemake need not start.

    `dvc repro` asks for every artefact one by one.
    """
    artefacts = [artefact_at(target) for target in targets]
    wanted = [artefact for artefact in artefacts if artefact is not None]
    if not wanted or len(wanted) < len(artefacts) or not (directory / "params").is_dir():
        return False
    study = load_study(directory)
    jobs = jobs_behind(study, wanted, Made(study, directory))
    return not any(line for job in jobs for line in verify(job, directory, digests=False))


def run_snakemake(
    study: Path,
    options: list[str],
    *,
    environment: Mapping[str, str | None] | None = None,
    keep_open: tuple[int, ...] = (),
) -> int:
    """Run Snakemake on a study and return its exit status.

    `environment` holds variables that it and its jobs get, None for those that they must not have.
    """
    command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--directory", str(study), *options]
    wanted = {**os.environ, **(environment or {})}
    given = {name: value for name, value in wanted.items() if value is not None}
    process = subprocess.Popen(command, env=given, pass_fds=keep_open)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Snakemake gets it, too, and ends when its jobs have


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
    paths = _paths(study, directory, asked, released=arguments.released)
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


def spread_study(arguments: argparse.Namespace) -> int:
    from onetok.spread.runs import spread

    def start(folder: Path, targets: list[str], environment: Mapping[str, str | None], lock: int) -> int:
        # Snakemake's own lock outlives a kill; this one does not.
        return run_snakemake(folder, ["--nolock", *targets], environment=environment, keep_open=(lock,))

    return spread(arguments.study, arguments.runs, start)


def publish_results(arguments: argparse.Namespace) -> int:
    publish.publish(arguments.study, push=not arguments.no_push, replace=arguments.replace)
    return 0


def restore_results(arguments: argparse.Namespace) -> int:
    publish.restore(arguments.study, replace=arguments.replace)
    return _touch(arguments.study, [])


def adopt_results(arguments: argparse.Namespace) -> int:
    verified, refused, left = find_adoptable(arguments.study)
    for line in left:
        print(f"left to be made: {line}")
    if not verified:
        raise OnetokError(f"{arguments.study / 'results'}: no artefact verifies, nothing is taken over")
    set_aside(arguments.study, refused)
    status = _touch(arguments.study, verified)
    if status == 0:
        print(f"{len(verified)} artefacts are taken over as they are, {len(left)} are left to be made")
    return status


def _touch(study: Path, targets: list[str]) -> int:
    """Tell Snakemake that targets (none: all of the study) and what they are made from are made."""
    return run_snakemake(study, ["--touch", "--forceall", "--quiet", "all", "--", *targets])


def generated(arguments: argparse.Namespace) -> int:
    directory = arguments.study.resolve()
    files = repository_files(REPOSITORY) if directory == REPOSITORY else study_files(directory)
    for path, content in files.items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            durable.write_text(path, content)
            print(f"{path.relative_to(directory)}: written")
    return 0


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
        durable.write_text(arguments.study / PINS_FILE, found.after)
        print(f"{arguments.study / PINS_FILE}: written")
        if (arguments.study / "dvc.yaml").exists():
            durable.write_text(arguments.study / "dvc.yaml", dvc_yaml(load_study(arguments.study)))
    if not (found.problems or found.moved or found.diff):
        print(f"{PINS_FILE}: every file that params name is pinned, and is the same on the Hub today")
    unwritten = found.diff and not arguments.write
    return int(bool(found.problems or unwritten or (found.moved and not arguments.update)))


if __name__ == "__main__":
    main()
