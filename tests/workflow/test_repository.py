"""What is generated is current, what must agree agrees."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml

from onetok.generated import generated_files
from onetok.params import load_study

SHARED = "../shared/published/tables.yaml"


def test_generated_files_are_current(repository):
    stale = [p.name for p, content in generated_files(repository).items() if p.read_text() != content]
    assert not stale, f"stale: {stale}; run `make generated`"


def test_the_lock_pins_what_pyproject_asks_for_by_hash_and_names_no_host(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    lock = (repository / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", lock, flags=re.MULTILINE))
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name, version = requirement.split("==")
        assert locked[re.sub(r"[-_.]+", "-", name).lower()] == version
    assert "://" not in lock and "--index-url" not in lock and "--find-links" not in lock
    assert all(f"{name}==" in lock for name in ("torch", "torchvision"))
    blocks = re.split(r"^(?=\S)", lock, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_dvc_has_a_stage_for_every_artefact_but_figures(repository):
    """DVC and Snakemake must not know different studies: the same names, receipts and payloads."""
    dvc = yaml.safe_load((repository / "dvc.yaml").read_text())
    files = {part.split(":")[0] for part in dvc["vars"]}
    for root in (repository, repository / "studies/miniature"):
        assert files == {p.relative_to(root).as_posix() for p in root.glob("params/*/*.yaml")}
        study = load_study(root)
        families = {
            (kind, name.split("/")[0]) for kind in type(study).model_fields for name in getattr(study, kind)
        }
        iterated = {tuple(re.findall(r"\w+", stage["foreach"])) for stage in dvc["stages"].values()}
        assert iterated == {f for f in families if f[0] != "figures"}


def test_dvc_keeps_every_output(repository):
    dvc = yaml.safe_load((repository / "dvc.yaml").read_text())
    for name, stage in dvc["stages"].items():
        assert stage["do"]["cmd"].startswith("onetok make results/"), name
        for out in stage["do"]["outs"]:
            ((path, options),) = out.items()
            assert options["persist"] is True, f"{name}: DVC would delete {path} before running"
            if path.endswith("receipt.json"):
                assert options["cache"] is False
        for dep in stage["do"].get("deps", []):
            assert dep.endswith("receipt.json") or dep.startswith("results/scores/"), f"{name}: {dep}"


def test_published_figures_are_those_of_the_collection(repository):
    path = repository / SHARED
    if not path.exists():
        pytest.skip(f"{SHARED} is not here: the collection of published figures")
    names = {"rfid": "rFID", "fid": "gFID", "inception_score": "IS"}
    tables = {
        t["id"]: {r["model"]: r["values"] for r in t["rows"]}
        for t in yaml.safe_load(path.read_text())["tables"]
    }
    checked = 0
    for table in load_study(repository).tables.values():
        for row in table.rows:
            if row.published:
                values = tables[row.published.table][row.published.model]
                for metric, figure in row.published.figures.items():
                    assert values[names[metric]] == figure, (row.label, metric)
                    checked += 1
    assert checked


def test_the_notebook_reads_and_holds_no_output(repository):
    notebook = json.loads((repository / "notebooks/tables.ipynb").read_text())
    shown = []
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    namespace = {"display": shown.append}
    for cell in code:
        cell = cell.replace("../studies", str(repository / "studies"))
        cell = re.sub(r"^from IPython.*$", "Markdown = Image = lambda x: x", cell, flags=re.MULTILINE)
        exec(compile(cell, "tables.ipynb", "exec"), namespace)
    assert any("Reconstruction of digits" in str(item) for item in shown)
    assert any(str(item).endswith("figure.png") for item in shown)


def test_no_path_of_a_machine_is_in_the_repository(repository):
    import subprocess

    command = ["git", "grep", "-nE", r"/(work|root|home/[a-z]+)/", "--", ".", ":!tests", ":!docs/how-to"]
    found = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert not found.stdout, found.stdout
