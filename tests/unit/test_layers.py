"""Imports go one way, and nothing outside a system's folder names a system (docs/decisions/0018)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onetok.systems import SYSTEMS
from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src/onetok"
LAYERS = [  # each imports from those above it, and from itself
    {"errors"},
    {"progress", "durable"},
    {"study"},
    {"workflow", "losses", "sampling", "spread"},
    {"nn"},
    {"data", "store"},
    {"networks", "release"},
    {"training"},
    {"systems"},
    {"metrics", "report"},
    {"speed"},
    {"api", "stages", "scaffold"},
    {"commands"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}
# What the whole project needs of all systems before torch: their names, and through these their params.
TORCH_FREE = re.compile(r"systems(\.\w+\.schema)?")
ALL_MODULES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the modules of this package that a file imports, anywhere in it, TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "onetok":
            package = node.module.removeprefix("onetok").removeprefix(".")
            names = [alias.name for alias in node.names]
            modules = [f"{package}.{name}" if package else name for name in names]
            found |= {m if is_module(m) else package for m in modules}
    return found - {""}


def is_module(name: str) -> bool:
    path = SOURCE / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def test_every_package_has_a_layer():
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert packages | modules == LEVEL.keys()
    assert len(modules) <= 5, "loose modules at the root of the package"


@pytest.mark.parametrize("path", ALL_MODULES, ids=name_of)
def test_imports_go_down(path):
    name = name_of(path)
    if name == "__init__":
        return
    here = name.split(".")[0]
    for module in imported(path):
        there = module.split(".")[0]
        if here == there or (here == "study" and TORCH_FREE.fullmatch(module)):
            continue
        allowed = TORCH_FREE.fullmatch(name) is not None and there == "study"
        assert allowed or LEVEL[there] < LEVEL[here], f"{name} imports {module}"


def test_nothing_imports_in_a_circle():
    edges = {name_of(path): imported(path) for path in ALL_MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(edges.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_of_another_system_nobody_takes_the_sampler_or_the_objective():
    for path in sorted((SOURCE / "systems").glob("*/*.py")):
        for module in imported(path):
            parts = module.split(".")
            if parts[0] == "systems" and len(parts) > 2 and parts[1] != path.parent.name:
                assert parts[2] not in ("sampling", "objective"), f"{name_of(path)} imports {module}"


def class_names() -> set[str]:
    """Return the names of all classes of the systems' model and schema pages."""
    found = set()
    for path in (SOURCE / "systems").glob("*/*.py"):
        found |= {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)}
    return found


@pytest.mark.parametrize("path", [p for p in ALL_MODULES if "systems" not in p.parts], ids=name_of)
def test_no_module_outside_names_a_class_of_a_system(path):
    """Encoder and the like are words of the field that others use, too: what counts is where a name comes from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onetok.systems."):
            package = node.module.removeprefix("onetok.systems.").split(".")[0]
            assert f"onetok.systems.{package}" not in SYSTEMS, f"{name_of(path)} imports {node.module}"


def test_what_snakemake_imports_has_no_torch():
    code = (
        "import sys, onetok.study.load, onetok.study.plan, onetok.study.receipts, onetok.workflow.needs,"
        " onetok.workflow.failures, onetok.workflow.profile, onetok.store.dvc_yaml, onetok.cli;"
        " assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
