"""The README and the how-to pages, followed as a reader would: their commands and Python are taken from their text.

A reader works in a clone, in which tests put smaller studies and untrained networks where the pages have trained ones.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onetok import load_tokenizer
from onetok.study.load import load_study
from tests.conftest import REPOSITORY
from tests.documentation import PAGES, Block, blocks, inline_commands
from tests.factories.photographs import write_photographs
from tests.factories.untrained import leave_untrained

pytestmark = pytest.mark.slow

README = REPOSITORY / "README.md"
REPRODUCE = REPOSITORY / "docs/how-to/reproduce.md"
DVC = REPOSITORY / "docs/how-to/dvc.md"
OWN_IMAGES = REPOSITORY / "docs/how-to/your-own-images.md"
PRETRAINED = REPOSITORY / "docs/how-to/pretrained.md"

# What no test runs, by how it begins, and why.
NOT_RUN = {
    "make reproduce": "installs an environment; what it runs then, here and in test_smallest.py smaller studies do",
    "make test": "is these tests",
    "snakemake --directory studies/miniature all write_index": "what `make reproduce` runs",
    "onetok make results/tables/text_to_image/mjhq/": "the papers' scale: data and GPUs",
    "onetok make --released generation/class-conditional": "the same; test_released.py makes a small one",
    "onetok make results/scores/": "the same",
    "onetok check --released": "says what is missing, and ends with 1; test_released.py and test_needs.py have it",
    "onetok verify --released": "test_released.py does",
    "onetok make results/tables/generation/class-conditional/receipt.json": "the papers' scale: data and GPUs",
    "onetok spread ": "runs a study several times; test_smallest.py has the smallest one do it",
    "onetok pin ": "asks the Hub",
    "onetok site": "tests/unit/report/test_site.py builds it",
    "onetok caption ": "the miniature has no captioner; tests/unit/api/test_captioner.py has the smallest study's",
    "onetok make results/{generators/published_maskgen/": "weights of the Hub",
    "onetok generate --generator published_maskgen/": "weights of the Hub",
    "tokenizer.push_to_hub(": "needs an account on the Hub",
    "hf auth login": "needs an account on the Hub",
    "make lock": "asks the package index",
    "make generated": "test_repository.py compares what it would write with what is there",
    "snakemake --lint": "is a part of `make test`",
    "dvc commit --force": "is a part of `onetok publish`",
    "dvc push": "is a part of `onetok publish`",
    "git checkout OLD": "needs two published states; what follows it, `onetok restore`, is run in another clone",
}
# What is only planned (`snakemake -n`), by how it begins, and why.
PLANNED = {
    "snakemake speed": "minutes at full size; test_plan.py and the unit tests of onetok.speed measure small systems",
    "snakemake released": "weights of the Hub; test_released.py has files in its place",
    "snakemake --profile slurm": "needs a cluster; test_slurm.py has a Slurm of its own",
}


class Reader:
    """Somebody with a clone of the repository and a home folder, who types what pages say with own names in it."""

    def __init__(self, clone: Path, home: Path, instead: dict[str, str]) -> None:
        self.clone, self.home, self.instead = clone, home, instead
        self.python: dict[str, object] = {}

    def types(self, line: str, *options: str) -> str:
        """Run a command line, in the clone or in the study that a name is of; return what it says on both streams."""
        if any(line.startswith(start) for start in NOT_RUN):
            return ""
        if any(line.startswith(start) for start in PLANNED):
            options = (*options, "-n")
        command = " ".join([self.own(line), *options])
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.place(line),
            env=os.environ | {"HOME": str(self.home)},
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        words = shlex.split(command)
        if "--out" in words:
            assert (self.place(line) / words[words.index("--out") + 1]).exists(), command
        return done.stdout

    def runs(self, block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
        """Execute a block of Python; what it defines, later blocks of the page know."""
        lines = [line for line in block.text.splitlines() if not line.startswith(tuple(NOT_RUN))]
        monkeypatch.chdir(self.place(block.text))
        exec(compile(self.own("\n".join(lines)), str(block), "exec"), self.python)

    def own(self, text: str) -> str:
        for said, meant in self.instead.items():
            text = text.replace(said, meant)
        return text

    def place(self, text: str) -> Path:
        """Return the study, where a page says NAME: a name of the study here."""
        return self.clone / "studies/miniature" if "NAME" in text else self.clone


def clone(folder: Path, miniature: Path) -> Path:
    """Copy what a clone of the repository has, with other params in the place of the miniature's."""
    for name in (
        "Snakefile",
        "environment.yml",
        "dvc.yaml",
        ".gitignore",
        ".dvcignore",
        ".dvc/config",
        ".dvc/.gitignore",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    for name in ("params", "profiles", "slurm", "workflow"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copytree(miniature / "params", folder / "studies/miniature/params")
    return folder


def grey(path: Path) -> None:
    with Image.open(path) as image:
        levels = image.convert("L")
    levels.save(path)


def train_for_a_few_steps(study: Path) -> None:
    """Shorten every training of a study, and what follows from its length."""
    for path in study.glob("params/*/*.yaml"):
        text = re.sub(r"\bsteps: \d{3,}", "steps: 4", path.read_text(encoding="utf-8"))
        text = re.sub(r"warmup: \d+", "warmup: 1", text)
        text = re.sub(r"(log|checkpoint|picture)_every: \d+", r"\1_every: 4", text)
        path.write_text(re.sub(r"codebook_floor: \{.*\}", "codebook_floor: null", text), encoding="utf-8")


def draw(path: Path, size: tuple[int, int], mode: str = "RGB") -> None:
    pixels = np.random.default_rng(len(path.stem)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page) for line in block.lines()]


def named(page: Path, *words: str) -> str:
    """Return the one command in a page's sentences that has these words."""
    found = {line for line in inline_commands(page) if set(words) <= set(line.split())}
    assert len(found) == 1, f"{page.name}: expected one command with {' '.join(words)}, found {sorted(found)}"
    return found.pop()


# Commands of sentences that are run below.
COMPARE, UNLOCK = named(REPRODUCE, "onetok", "compare"), named(REPRODUCE, "snakemake", "--unlock")
INDEX = named(OWN_IMAGES, "onetok", "index")
CHECK, GENERATED, CONVERT_AGAIN = (
    named(OWN_IMAGES, "onetok", "check"),
    named(OWN_IMAGES, "onetok", "generated"),
    named(OWN_IMAGES, "snakemake", "--forcerun"),
)
VERIFY, BRING_BACK = named(DVC, "onetok", "verify"), named(DVC, "onetok", "restore", "--replace")
REPRO = named(DVC, "dvc", "repro", "studies/miniature/dvc.yaml")
IN_SENTENCES = [COMPARE, UNLOCK, INDEX, CHECK, GENERATED, CONVERT_AGAIN, VERIFY, BRING_BACK, REPRO]


def test_what_is_not_run_is_on_a_page():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert all(any(start in text for text in texts) for start in (*NOT_RUN, *PLANNED))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_sentence_is_run_or_listed_with_the_reason(page):
    """A sentence may name a command of a block by its first words; the commands of blocks are all followed."""
    followed = [*IN_SENTENCES, *(line for other in PAGES for line in commands(other))]
    for line in inline_commands(page):
        own = re.sub("studies/miniature|STUDY", "studies/birds", line)
        run = any(f"{one} ".startswith((f"{line} ", f"{own} ")) for one in followed)
        assert run or line.startswith((*NOT_RUN, *PLANNED)), (
            f"{page.name}: `{line}` is neither run nor listed"
        )


# ---------------------------------------------------------------------------------------------- use


# The networks behind the names that pages use, each after those that it is built on.
NETWORKS = [
    ("encoders", "clip/scenes"),
    ("tokenizers", "titok/vq-16"),
    ("tokenizers", "tatitok/scenes-vq"),
    ("generators", "maskgit/tiny"),
    ("generators", "maskgen_tuned/vq"),
]


@pytest.fixture(scope="module")
def clone_with_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in whose miniature networks are made, untrained, with an image in the clone and images in the study."""
    folder = clone(tmp_path_factory.mktemp("reader") / "onetok", REPOSITORY / "studies/miniature")
    leave_untrained(folder / "studies/miniature", *NETWORKS)
    draw(folder / "image.png", (48, 40))
    for name in ("image.png", "1.jpg", "22.jpg"):
        draw(folder / "studies/miniature" / name, (40, 48))
    return folder


def settings_of(clone: Path, samples: str) -> str:
    entry = load_study(clone / "studies/miniature").samples[samples].sampling
    return json.dumps(entry.model_dump(mode="json"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in (OWN_IMAGES, DVC)], ids=lambda page: page.name
)
def test_the_commands_and_the_python_of_a_page_run(clone_with_networks, tmp_path, monkeypatch, page):
    instead = {
        "--tokenizer NAME": "--tokenizer titok/vq-16",
        "--generator NAME": "--generator maskgit/tiny",
        "--samples NAME": "--samples maskgit/tiny",
        "{kind: masked, steps: 8, …}": settings_of(clone_with_networks, "maskgit/tiny"),
        "load_tokenizer(NAME)": "load_tokenizer('titok/vq-16')",
        "load_generator(NAME)": "load_generator('maskgit/tiny')",
    }
    reader = Reader(clone_with_networks, tmp_path, instead)
    for block in blocks(page):
        if block.is_python:
            reader.runs(block, monkeypatch)
        for line in block.lines():
            reader.types(line)
    if page == README:
        said = re.search(r"tokens\.ids: (\(\d+, \d+\)) integers in \[0, (\d+)\)", page.read_text("utf-8"))
        ids, tokenizer = reader.python["tokens"].ids, reader.python["tokenizer"]
        assert (str(tuple(ids.shape)), str(tokenizer.codebook_size)) == said.groups()
        assert reader.python["images"].shape == (2, 3, 32, 32)  # of the last generator
    if page == REPRODUCE:
        reader.types(UNLOCK)
    if page == PRETRAINED:
        assert reader.python["images"].shape == (3, 3, 32, 32)
        saved = load_tokenizer(clone_with_networks / "titok-vq-16")
        ids = torch.zeros(1, saved.tokens, dtype=torch.int64)
        assert torch.equal(saved.decode(ids), reader.python["tokenizer"].decode(ids))


# ---------------------------------------------------------------------------------------------- own images


def test_own_images_from_a_folder_to_pictures_and_to_a_restored_clone(tmp_path):
    home, store = tmp_path / "home", tmp_path / "store"
    write_photographs(home / "birds", per_class=15, classes=2, side=40)
    for label, photograph in (("heron", "astronaut"), ("wren", "cat")):
        (home / "birds" / photograph).rename(home / "birds" / label)
    grey(home / "birds/heron/002.jpg")
    (home / "birds/heron/000.jpg").rename(home / "birds/heron/015.jpg")  # the page's is 001.jpg
    (home / "birds/heron/000.txt").rename(home / "birds/heron/015.txt")
    (record,) = (block.text for block in blocks(OWN_IMAGES) if block.text.startswith('{"aesthetic"'))
    (home / "birds/heron/001.json").write_text(record)

    instead = {"/path/to/a/folder": str(store), "studies/miniature": "studies/birds"}
    reader = Reader(clone(tmp_path / "onetok", REPOSITORY / "tests/e2e/smallest"), home, {})
    study = reader.clone / "studies/birds"
    new, make, generate, reconstruct = commands(OWN_IMAGES)
    assert "30 images, 24 to train on and 6 to validate" in reader.types(new)
    assert reader.types(f"{CHECK}") == ""
    train_for_a_few_steps(study)
    reader.types(GENERATED)
    reader.types(make)
    run = "snakemake --directory studies/birds"
    assert "Nothing to be done" in reader.types(run, "-n")
    tables, sheets = re.findall(
        r"tables are in `([^`]+)`, the contact sheets in `([^`]+)` there", OWN_IMAGES.read_text("utf-8")
    )[0]
    assert len(list((reader.clone / tables).glob("*/*/table.md"))) == 2
    assert len(list(study.glob(sheets))) == 2
    assert reader.types(INDEX).strip().endswith("studies/birds/results/index.html")
    assert "artefacts are made" in reader.types("onetok status --study studies/birds")
    reader.types(generate)
    reader.types(reconstruct)
    drawn = sorted((reader.clone / "herons").glob("*.png"))
    pictures = [Image.open(path) for path in (*drawn, reader.clone / "rebuilt.png")]
    assert [picture.size for picture in pictures] == [(64, 64)] * 5
    assert all(np.asarray(picture).std() > 0 for picture in pictures)

    # docs/how-to/dvc.md, of this study
    git(reader, "git init -q")
    reader.instead = instead
    remote, publish, restore, adopt = commands(DVC)
    reader.types(remote)
    reader.types(publish)
    assert reader.types(GENERATED) == ""  # dvc.yaml is what it should be
    git(reader, "git add -A")
    git(reader, "git -c user.name=reader -c user.email=reader@example.org commit -q -m published")
    compared = reader.types(f"{COMPARE} --study studies/birds")
    assert compared.count(": identical") == 2 and "receipts: all hold" in compared
    assert git(reader, "git status --porcelain") == ""

    other = Reader(tmp_path / "another clone", home, instead)
    git(reader, f"git clone -q . {shlex.quote(str(other.clone))}")
    other.types(remote)
    other.types(restore)
    restored = other.clone / "studies/birds"
    assert "artefacts are what" in other.types(f"{VERIFY} --study studies/birds")
    assert "Nothing to be done" in other.types(run, "-n")
    repro = other.types(REPRO)
    assert not re.search(r"^(?:local)?rule \w+:", repro, re.MULTILINE), repro
    assert git(other, "git status --porcelain") == ""
    shutil.rmtree(study / "results")
    reader.types(restore)
    assert "artefacts are what" in reader.types(f"{VERIFY} --study studies/birds")

    weights = restored / "results/tokenizers/titok/vq-32/weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    other.types(f"{BRING_BACK} --study studies/birds")
    assert weights.read_bytes() == content

    # Copied without DVC and Snakemake's records of it
    shutil.rmtree(restored / ".snakemake")
    assert "artefacts are taken over as they are, 0 are left" in other.types(adopt)
    assert "Nothing to be done" in other.types(run, "-n")

    # Another image, and what is made of it
    shards = study / "results/datasets/labelled/birds"
    before = json.loads((shards / "receipt.json").read_text())["outputs"]
    (home / "birds/wren/001.jpg").write_bytes((home / "birds/wren/002.jpg").read_bytes())
    reader.types(CONVERT_AGAIN, "--until", "convert_dataset")
    assert json.loads((shards / "receipt.json").read_text())["outputs"] != before
    planned = reader.types(run, "-n")
    assert all(rule in planned for rule in ("train_tokenizer", "sample_images", "build_table"))


def git(reader: Reader, command: str) -> str:
    done = subprocess.run(shlex.split(command), cwd=reader.clone, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
