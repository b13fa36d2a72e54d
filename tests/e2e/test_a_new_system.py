"""What it takes to add a system: a folder, a line in the registry, params files. Nothing else is touched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

SMALLEST = REPOSITORY / "tests/e2e/smallest/params"
REGISTERED = 'import onetok.systems\n\nonetok.systems.SYSTEMS.append("toy")\n'  # the line, for every process of the run


def read(name):
    return yaml.safe_load((SMALLEST / name).read_text())


def write(study, name, content):
    path = study / "params" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def study(tmp_path):
    """The digits of the smallest study, with the toys instead of its tokenizers and generators."""
    study = tmp_path / "study"
    for name in ("datasets/labelled", "encoders/classifiers", "benchmarks/class_conditional"):
        (study / "params" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SMALLEST / f"{name}.yaml", study / "params" / f"{name}.yaml")
    benchmarks = read("benchmarks/reconstruction.yaml")["benchmarks"]["reconstruction"]
    digits = {"reconstruction": {"digits": benchmarks["digits"]}}
    write(study, "benchmarks/reconstruction.yaml", {"benchmarks": digits})

    tokenizer = read("tokenizers/vqgan.yaml")["tokenizers"]["vqgan"]["tiny"]
    quantizer = tokenizer["model"]["quantizer"]
    tokenizer |= {"kind": "toy-patches", "model": {"patch": 8, "quantizer": quantizer}}
    tokens = read("tokenizers/titok.yaml")["tokens"]["titok"]["vq-16"] | {"tokenizer": "toy/patches"}
    write(
        study,
        "tokenizers/toy.yaml",
        {"tokenizers": {"toy": {"patches": tokenizer}}, "tokens": {"toy": {"patches": tokens}}},
    )

    training = read("generators/maskgit.yaml")["generators"]["maskgit"]["tiny"]["training"]
    samples = read("generators/maskgit.yaml")["samples"]["maskgit"]["tiny"]
    generator = {"kind": "toy-table", "tokens": "toy/patches", "classes": 10, "training": training}
    samples |= {"generator": "toy/table", "sampling": {"kind": "toy-independent"}}
    write(
        study,
        "generators/toy.yaml",
        {"generators": {"toy": {"table": generator}}, "samples": {"toy": {"table": samples}}},
    )

    table = read("tables/generation.yaml")["tables"]["generation"]["class-conditional"]
    row = {"label": "toy", "tokenizer": None, "samples": "toy/table", "published": None}
    table |= {"rows": [row], "claims": [], "controls": []}
    write(study, "tables/generation.yaml", {"tables": {"generation": {"toys": table}}})
    return study


@pytest.mark.slow
def test_a_folder_a_line_and_params_are_a_system(study, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(REPOSITORY / "tests/e2e/toy", site / "toy")
    (site / "sitecustomize.py").write_text(REGISTERED)
    programs = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*command):
        done = subprocess.run(
            [str(programs / command[0]), *command[1:]],
            env=environment,
            cwd=REPOSITORY,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    run("onetok", "check", "--study", str(study))
    run("snakemake", "--directory", str(study), "--cores", "2")
    text = (study / "results/tables/generation/toys/table.md").read_text()
    assert "| toy " in text and "toy: every token for itself, seed 0." in text
    run("onetok", "generated", "--study", str(study))
    assert "train_tokenizer-toy-patches" in (study / "dvc.yaml").read_text()
    picture = tmp_path / "seven.png"
    how = ["--generator", "toy/table", "--samples", "toy/table", "--class", "7", "--seed", "0"]
    run("onetok", "generate", *how, "--out", str(picture), "--study", str(study))
    assert picture.read_bytes().startswith(b"\x89PNG")
