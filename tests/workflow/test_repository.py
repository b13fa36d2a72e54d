"""What is generated is current, what must agree agrees."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from onetok.report.generated import repository_files
from onetok.study.load import load_study
from onetok.study.plan import all_jobs

SHARED = "../shared/published/tables.yaml"


def test_generated_files_are_current(repository):
    stale = [p.name for p, content in repository_files(repository).items() if p.read_text() != content]
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


@pytest.mark.parametrize("study", [".", "studies/miniature"])
def test_dvc_sees_what_snakemake_sees(repository, study):
    """DVC reads dvc.yaml as a stage for every job, which depends on the receipts that the job reads, and on its
    version, and leaves what the job writes where it is."""
    from dvc.repo import Repo

    root = (repository / study).resolve()
    jobs = {job.artefact.receipt: job for job in all_jobs(load_study(root))}

    def below(path):
        return Path(path).relative_to(root).as_posix()

    with Repo(str(repository)) as repo:
        stages = [s for s in repo.index.stages if Path(s.path_in_repo).parent == Path(study)]
        assert len(stages) == len(jobs)
        for stage in stages:
            outs = {below(out.fs_path): out for out in stage.outs}
            (receipt,) = (name for name in outs if name.endswith("receipt.json"))
            job = jobs[receipt]
            deps = {below(dep.fs_path) for dep in stage.deps if not hasattr(dep, "params")}
            assert deps == {needed.receipt for needed in job.inputs}, receipt
            written = {f"{job.artefact.folder}/{output}" for output in ("receipt.json", *job.outputs)}
            assert outs.keys() == written, receipt
            assert all(out.persist for out in stage.outs), "DVC would delete it before running the stage"
            assert not outs[receipt].use_cache
            assert stage.cmd.endswith(f"onetok make {receipt} # version {job.version} of {job.stage}")


def test_evidence_was_made_with_the_params_and_versions_of_today(repository):
    from onetok.study.digests import sha256
    from onetok.study.receipts import parse_receipt, payloads_of

    study = repository / "studies/miniature"
    for job in all_jobs(load_study(study)):
        path = study / job.artefact.receipt.replace("results/", "evidence/", 1)
        receipt = parse_receipt(path)
        assert receipt["params"] == job.params and receipt["version"] == job.version, path
        for name, read in receipt["inputs"].items():
            made = study / name.replace("results/", "evidence/", 1)
            assert sha256(made) == read["sha256"], (path, name)
            assert payloads_of(parse_receipt(made)) == read["payloads"], (path, name)
        for output, expected in receipt["outputs"].items():
            kept = path.parent / output
            assert not kept.exists() or sha256(kept) == expected["sha256"], kept


def test_published_figures_are_those_of_the_collection(repository):
    path = repository / SHARED
    if not path.exists():
        pytest.skip(f"{SHARED} is not here: the collection of published figures")
    names = {"rfid": ("rFID",), "inception_score": ("IS",), "geneval": ("overall",)}
    names |= {
        "fid": ("gFID", "FID", "MJHQ_FID", "COCO_FID30K", "FID30K"),
        "precision": ("precision",),
        "recall": ("recall",),
    }
    names |= {f"geneval_{task}": (task,) for task in ("counting", "colors", "position", "color_attr")}
    names |= {f"geneval_{task}_object": (f"{task}_obj",) for task in ("single", "two")}
    names |= {
        "bleu_4": ("BLEU4",),
        "meteor": ("METEOR",),
        "rouge_l": ("ROUGE",),
        "cider_d": ("CIDEr",),
        "spice": ("SPICE",),
    }
    tables = {t["id"]: {r["model"]: r for r in t["rows"]} for t in yaml.safe_load(path.read_text())["tables"]}
    checked = 0
    for table in load_study(repository).tables.values():
        for row in table.rows:
            if row.published:
                found = tables[row.published.table][row.published.model]
                for metric, figure in row.published.figures.items():
                    (column,) = [name for name in names[metric] if found["values"].get(name) == figure.value]
                    doubtful = found.get("unverified_figures", [column]) if found.get("unverified") else []
                    assert figure.unverified == (column in doubtful), (row.label, metric)
                    checked += 1
    assert checked > 120


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
    if not (repository / ".git").exists():
        pytest.skip("needs git's list of files: this is no clone")
    command = ["git", "grep", "-nE", r"/(work|root|home/[a-z]+)/", "--", ".", ":!tests", ":!docs/how-to"]
    found = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert not found.stdout, found.stdout


def test_text_is_read_and_written_as_utf_8_in_every_locale(repository):
    """ruff's PLW1514 sees only paths whose type it can tell."""
    without = [
        f"{path.relative_to(repository)}:{node.lineno}"
        for path in sorted(repository.glob("src/**/*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_an_encoding(node)
    ]
    assert not without


def lacks_an_encoding(call: ast.Call) -> bool:
    """Tell whether a call reads or writes text by the locale's encoding."""
    words = {word.arg for word in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if "encoding" in words or owner in ("Image", "tarfile", "archive", "os", "durable"):
        return False
    if name == "open":
        modes = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
        return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)
    return name in ("run", "Popen", "check_output") and bool(words & {"text", "universal_newlines"})
