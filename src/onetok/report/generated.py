"""Files that are generated from others and kept in git.

A test fails when one is out of date, and `onetok generated` writes them anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from onetok.errors import OnetokError
from onetok.report.params_page import params_page
from onetok.store.dvc_yaml import dvc_yaml
from onetok.study.load import load_study
from onetok.study.pins import PinnedFile
from onetok.study.schema.study import Study

MINIATURE = Path("studies/miniature")
SHOWN = "reconstruction/token-count"  # the table of the miniature that the README shows


def repository_files(repository: Path) -> dict[Path, str]:
    """Return the current content of each generated file of the repository."""
    files = {
        repository / "environment.yml": environment(repository),
        repository / "params/schema.json": schema(),
        repository / "docs/reference/params.md": params_page(),
        repository / "docs/decisions/README.md": decisions(repository),
    }
    return files | pages(repository) | study_files(repository) | study_files(repository / MINIATURE)


def study_files(directory: Path) -> dict[Path, str]:
    """Return the current content of each generated file of a study."""
    return {directory / "dvc.yaml": dvc_yaml(load_study(directory))}


def environment(repository: Path) -> str:
    """Return the conda environment with the direct requirements of pyproject.toml, at the same versions."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    packages = [*project["dependencies"], *extras["captions"], *extras["dev"]]
    lines = [
        "# Made from pyproject.toml by `onetok generated`: the environment of requirements.lock, for conda users.",
        "name: onetok",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
        *(f"      - {package}" for package in packages),
    ]
    return "\n".join(lines) + "\n"


def schema() -> str:
    """Return the JSON Schema of a params file, for editors: kind → family → variant, or an anchor holder."""
    study = Study.model_json_schema()
    properties = {
        kind: {"type": "object", "additionalProperties": {**content, "title": f"families of {kind}"}}
        for kind, content in study["properties"].items()
    }
    pinned = PinnedFile.model_json_schema()
    properties["pins"] = {"type": "object", "additionalProperties": pinned, "title": "params/pins.yaml"}
    content = {
        "$defs": study["$defs"],
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "onetok params",
        "type": "object",
        "properties": properties,
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def decisions(repository: Path) -> str:
    """Return the list of the decisions, by their headings."""
    lines = ["# Decisions", "", "What was decided and why, for what others might undo.", ""]
    for path in sorted((repository / "docs/decisions").glob("[0-9]*.md")):
        heading = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        title = re.sub(r"^\d+\. ", "", heading)
        lines.append(f"- {path.name[:4]}: [{title}]({path.name})")
    return "\n".join(lines) + "\n"


def pages(repository: Path) -> dict[Path, str]:
    """Return the README with one of the miniature's tables, and the miniature's page with all of them.

    Raises OnetokError where the markers that a page has around its tables are missing.
    """
    from onetok.report.pages import Pages  # imports pandas and SciPy, which take a second

    study = repository / MINIATURE
    published = Pages(load_study(study), study)
    parts = {
        repository / "README.md": published.table(SHOWN, folded=False),
        study / "README.md": published.page(),
    }
    return {path: between_markers(path, text) for path, text in parts.items()}


def between_markers(path: Path, tables: str) -> str:
    """Return the text of a page with these tables between its markers. Raises OnetokError where these are missing."""
    text = path.read_text(encoding="utf-8")
    pattern = r"(<!-- tables:.*?-->\n).*?(<!-- end of tables -->)"
    if not re.search(pattern, text, flags=re.DOTALL):
        raise OnetokError(f"{path}: the markers of the tables are missing")
    return re.sub(pattern, lambda found: f"{found[1]}{tables.strip()}\n{found[2]}", text, flags=re.DOTALL)
