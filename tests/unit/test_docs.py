"""What the README and the how-to pages tell readers to type exists: commands parse, names and paths are there.

tests/e2e/test_documentation.py runs the pages; what follows costs a moment.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from onetok.cli import parse, parser
from onetok.commands.make import receipts_of
from onetok.study.load import load_study
from onetok.study.plan import KIND_OF_STAGE, artefact_at, plan
from onetok.study.schema.datasets import Dataset
from onetok.study.schema.records import read_record
from onetok.study.schema.study import Study
from tests.conftest import REPOSITORY
from tests.documentation import PAGES, Block, anchors, blocks, inline_commands, prose

BLOCKS = [block for page in PAGES for block in blocks(page)]
STUDIES = {path: load_study(REPOSITORY / path) for path in (".", "studies/miniature")}
OWN_IMAGES = REPOSITORY / "docs/how-to/your-own-images.md"
# Studies of the reader: the one that docs/how-to/your-own-images.md makes, and any other.
OF_A_READER = {"studies/birds", "STUDY"}
SMK = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow/rules").glob("*.smk"))]
RULES = {rule for path in SMK for rule in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)}


def commands(program: str) -> list[tuple[Block, list[str]]]:
    """Return the command lines of all pages that start with a program, as a shell would split them."""
    return [(block, line) for block in BLOCKS for line in block.commands() if line[0] == program]


def in_sentences(program: str) -> list[tuple[Path, list[str]]]:
    """Return the commands of a program that sentences name."""
    found = [(page, shlex.split(command)) for page in PAGES for command in inline_commands(page)]
    return [(page, words) for page, words in found if words[0] == program]


def ids(found: list[tuple[Block | Path, list[str]]]) -> list[str]:
    return [f"{getattr(where, 'name', where)} {' '.join(line)[:60]}" for where, line in found]


# ---------------------------------------------------------------------------------------------- onetok


ONETOK = commands("onetok")


@pytest.mark.parametrize(("block", "line"), ONETOK, ids=ids(ONETOK))
def test_a_command_parses_and_names_what_the_study_has(block, line):
    try:
        arguments = vars(parse(line[1:]))
    except SystemExit:
        pytest.fail(f"{block}: {shlex.join(line)} is not understood")
    place = arguments["study"].as_posix()
    if place in OF_A_READER:
        return
    study = STUDIES[place]
    for option, kind in (("tokenizer", "tokenizers"), ("generator", "generators"), ("samples", "samples")):
        name = arguments.get(option)
        if isinstance(name, str) and name != "NAME":
            assert name in getattr(study, kind), f"{block}: no {kind} named {name}"
    for target in arguments.get("targets") or []:
        released = arguments.get("released", False)
        (path,) = receipts_of(study, REPOSITORY / place, [target], released=released)
        artefact = artefact_at(path)
        assert artefact is not None, f"{block}: {target} is no receipt"
        plan(study, artefact.kind, artefact.name)
    runs = {run.name for spread in study.spreads.values() for run in spread.runs}
    assert set(arguments.get("runs") or []) <= runs, f"{block}: {place} has the runs {runs}"
    if hub := arguments.get("hub"):
        pinned = weights_of(study) & {(hub, arguments["file"])}
        assert pinned, f"{block}: no params name {arguments['file']} of {hub}"


def weights_of(study: Study) -> set[tuple[str, str]]:
    """Return (owner/name, file) of all that the params of a study want from the Hub."""
    kinds = (study.encoders, study.tokenizers, study.generators)
    entries = [entry for kind in kinds for entry in kind.values() if hasattr(entry, "weights")]
    return {(entry.weights.hub, entry.weights.file) for entry in entries}


ONETOK_IN_SENTENCES = in_sentences("onetok")


@pytest.mark.parametrize(("page", "words"), ONETOK_IN_SENTENCES, ids=ids(ONETOK_IN_SENTENCES))
def test_a_command_in_a_sentence_has_its_options(page, words):
    """Sentences leave out what a command needs, so it is looked up and not parsed."""
    (action,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert words[1] in action.choices, f"{page.name}: onetok has no {words[1]}"
    options = action.choices[words[1]]._option_string_actions
    assert {word for word in words if word.startswith("--")} <= options.keys(), f"{page.name}: {words}"


# ---------------------------------------------------------------------------------------------- other programs


SNAKEMAKE = [*commands("snakemake"), *in_sentences("snakemake")]


@pytest.mark.parametrize(("where", "line"), SNAKEMAKE, ids=ids(SNAKEMAKE))
def test_snakemake_is_given_profiles_studies_and_rules_that_exist(where, line):
    for before, word in pairwise(line):
        if before == "--profile":
            assert (REPOSITORY / word / "config.yaml").is_file(), f"{where}: no profile {word}"
        elif before == "--directory":
            assert word in {*STUDIES, *OF_A_READER}, f"{where}: no study {word}"
        elif before not in ("--cores", "--config") and not word.startswith("-"):
            assert word in RULES, f"{where}: no rule {word}"


def test_rules_are_the_stages_the_pages_and_the_three_targets():
    assert {*KIND_OF_STAGE, "write_index", "write_site", "all", "released", "speed"} == RULES


def test_options_of_snakemake_that_sentences_name_alone_are_given_rules():
    text = "\n".join(prose(page) for page in PAGES)
    assert set(re.findall(r"`--forcerun (\w+)`", text)) <= RULES


def test_make_has_the_targets():
    known = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    lines = [line for _, line in [*commands("make"), *in_sentences("make")]]
    asked = {word for line in lines for word in line[1:] if "=" not in word}
    assert asked and asked <= known


def test_python_is_given_stages_that_exist():
    modules = [
        name for page in PAGES for name in re.findall(r"-m (onetok[\w.]*)", page.read_text(encoding="utf-8"))
    ]
    assert {name.removeprefix("onetok.stages.") for name in modules} <= KIND_OF_STAGE.keys()


def test_dvc_is_given_files_that_exist():
    lines = [line for _, line in [*commands("dvc"), *in_sentences("dvc")]]
    named = [word for line in lines for word in line if word.endswith("dvc.yaml")]
    assert named and all((REPOSITORY / name).is_file() for name in named)


# ---------------------------------------------------------------------------------------------- Python


PYTHON = [block for block in BLOCKS if block.is_python]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_imports_what_there_is_and_names_what_the_study_has(block):
    for node in ast.walk(ast.parse(block.text, filename=str(block))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("onetok"):
            for alias in node.names:
                assert hasattr(importlib.import_module(node.module), alias.name), f"{block}: {alias.name}"
        if isinstance(node, ast.Call):
            check_names(block, node)


def check_names(block: Block, call: ast.Call) -> None:
    given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
    function = getattr(call.func, "id", getattr(call.func, "attr", None))
    kind = {"load_tokenizer": "tokenizers", "load_generator": "generators"}.get(function)
    if kind and isinstance(call.args[0], ast.Constant):
        assert call.args[0].value in getattr(STUDIES[given["study"]], kind), f"{block}: {call.args[0].value}"
    if "sampling" in given:
        assert given["sampling"] in STUDIES["studies/miniature"].samples, f"{block}: {given['sampling']}"


# ---------------------------------------------------------------------------------------------- params


def test_params_that_pages_show_are_valid_and_those_of_the_miniature_are_its_own():
    shown = [yaml.safe_load(block.text) for block in BLOCKS if block.is_params and block.page != OWN_IMAGES]
    assert len(shown) == 1
    for content in shown:
        (kind,) = content
        ((family, variants),) = content[kind].items()
        for variant, entry in variants.items():
            known = getattr(STUDIES["studies/miniature"], kind)[f"{family}/{variant}"]
            known.model_validate(entry)
            if kind == "spreads":  # the page shows two of its runs
                assert entry["runs"] == [
                    run.model_dump() for run in known.runs if run.name in {r["name"] for r in entry["runs"]}
                ]


def test_sources_and_splits_that_a_page_shows_in_part_are_valid():
    (whole,) = blocks_that(OWN_IMAGES, "datasets:")
    dataset = yaml.safe_load(whole.text)["datasets"]["labelled"]["birds"]
    splits = re.findall(r"`(split: \{[^`]+\})`", prose(OWN_IMAGES))
    sources = [block.text for block in blocks_that(OWN_IMAGES, "source: {")]
    assert len(splits) == 2 and len(sources) == 1
    for part in map(yaml.safe_load, [*splits, *sources]):
        Dataset.model_validate(dataset | part)


def test_the_record_beside_an_image_that_a_page_shows_is_one():
    (block,) = blocks_that(OWN_IMAGES, '{"aesthetic"')
    assert read_record(block.text.encode(), str(block)).aesthetic == 5.6


def blocks_that(page: Path, start: str) -> list[Block]:
    return [block for block in blocks(page) if block.text.startswith(start)]


# ---------------------------------------------------------------------------------------------- names and links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page):
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert not missing, f"{page.name} links to what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    missing = [name for name in paths_in(text) if not is_there(name)]
    missing += [name for name in re.findall(r"`(onetok(?:\.\w+)+)`", text) if not is_defined(name)]
    named = re.findall(r"`([a-z_]+)\.([a-z0-9_]+)\.([a-z0-9-]+)`", text)  # kind.family.variant of params
    missing += [
        f"{kind}.{family}.{variant}"
        for kind, family, variant in named
        if kind in Study.model_fields
        and not any(f"{family}/{variant}" in getattr(study, kind) for study in STUDIES.values())
    ]
    assert not missing, f"{page.name} names what is not there: {', '.join(missing)}"


def paths_in(text: str) -> list[str]:
    """Return the paths of the repository that a page names: those of its folders, and files with a suffix."""
    tops = "docs|params|profiles|slurm|src|studies/miniature|tests|workflow|notebooks|systems|study"
    folders = re.findall(rf"`((?:{tops})/[\w./-]*)`", text)
    return folders + re.findall(r"`([\w./-]+\.(?:yaml|toml|cff|md|py|smk))`", text)


def is_there(name: str) -> bool:
    """Whether a path is there as pages write it: from the root, from a study, from src/onetok, or a name alone."""
    if name.startswith(("results/", "studies/birds/")) or "*" in name:
        return True  # what a run or the reader makes
    if any((REPOSITORY / place / name).exists() for place in ("", "studies/miniature", "src/onetok")):
        return True
    folders = (REPOSITORY / "studies/miniature/params", REPOSITORY / "src")
    return "/" not in name and any(path for folder in folders for path in folder.rglob(name))


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    module, _, rest = name.rpartition(".")
    if Path(REPOSITORY / "src" / name.replace(".", "/")).is_dir():
        return True
    try:
        importlib.import_module(name)
    except ImportError:
        return hasattr(importlib.import_module(module), rest)
    return True


def test_a_page_lists_every_folder_and_every_package():
    (tree,) = blocks_that(REPOSITORY / "docs/explanation/how-it-works.md", "params/ ")
    listed = re.findall(r"^(\w[\w/]*)/ ", tree.text, re.MULTILINE)
    assert all((REPOSITORY / name).is_dir() for name in listed)
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - {"results"} <= {name.split("/")[0] for name in listed}
    (described,) = re.findall(r"^src/onetok/ (.*?)^studies/", tree.text, re.MULTILINE | re.DOTALL)
    packages = {path.parent.name for path in (REPOSITORY / "src/onetok").glob("*/__init__.py")}
    assert set(re.findall(r"(\w+)/", described)) == packages
