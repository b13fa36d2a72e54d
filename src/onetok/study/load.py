"""Reading a study: every params file, strictly, with one line for each thing that is wrong.

Imports no torch: Snakemake reads a study at every start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from onetok.errors import OnetokError, nearest, printable, shown
from onetok.study import pins
from onetok.study.checks import inconsistencies
from onetok.study.references import references
from onetok.study.schema.study import Study
from onetok.study.schema.tables import CurvesFigure
from onetok.study.yaml_files import entries, read_yaml

Contents = dict[str, dict[str, Any] | None]  # of params files, by name; None: it could not be read

# Which kinds a file in each folder of params/ may define.
FOLDERS = {
    "datasets": ("datasets",),
    "encoders": ("encoders",),
    "tokenizers": ("tokenizers", "text_tokenizers", "tokens"),
    "generators": ("generators", "samples", "captions"),
    "benchmarks": ("benchmarks", "speeds", "spreads"),
    "tables": ("tables", "figures"),
}
FOLDER_OF_KIND = {kind: folder for folder, kinds in FOLDERS.items() for kind in kinds}


def as_directory(study: Any) -> Path:
    """Return the directory of a study as a path. Raises OnetokError for what is none."""
    if not isinstance(study, str | os.PathLike) or "\0" in os.fspath(study):
        raise OnetokError(
            f"study: found {shown(study)}, expected the path of a study, a directory with params/"
        )
    return Path(study)


def load_study(directory: Path = Path()) -> Study:
    """Read and check every params file of a study.

    Raises OnetokError with one line for each thing that is wrong: file, path, what was found, what is known.
    """
    contents, problems = read_params(directory)
    return build_study(contents, problems)


def read_params(directory: Path) -> tuple[Contents, list[str]]:
    """Return what the files of params/ hold, by their names below the study, and what is wrong with params/."""
    root = directory / "params"
    if not root.is_dir():
        expected = (
            "expected a study, a directory with params/: name one by --study, or write one with `onetok new`"
        )
        raise OnetokError(f"{root}: no such folder, {expected}")
    contents: Contents = {}
    problems: list[str] = []
    for path in _files(root, problems):
        name = path.relative_to(directory).as_posix()
        try:
            contents[name] = _read_yaml(path, name)
        except OnetokError as error:
            problems.append(str(error))
            contents[name] = None
    return contents, problems


def _read_yaml(path: Path, name: str) -> dict[str, Any]:
    content = read_yaml(path, name)
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise OnetokError(f"{name}: expected a mapping of kinds, found {found}")
    return content


def _files(root: Path, problems: list[str]) -> Iterator[Path]:
    """Yield the params files, and add what should not be there to `problems`."""
    for folder in entries(root):
        name = f"params/{folder.name}"
        if folder == root / "schema.json":
            continue
        if name == pins.FILE:
            yield folder
            continue
        if folder.name not in FOLDERS:
            problems.append(
                f"{name}: expected only folders {', '.join(FOLDERS)}; {nearest(folder.name, FOLDERS)}"
            )
        elif not folder.is_dir():
            problems.append(f"{name}: is no folder, expected one of params files")
        else:
            for path in entries(folder):
                if path.suffix == ".yaml":
                    yield path
                else:
                    problems.append(f"{name}/{path.name}: expected only files named *.yaml in params/")


def build_study(contents: Mapping[str, dict[str, Any] | None], problems: list[str] | None = None) -> Study:
    """Check what params files hold, by file name (params/<folder>/<family>.yaml), and return the study that it is.

    Raises OnetokError with one line for each thing that is wrong, `problems` first.
    """
    problems = list(problems or [])
    raw: dict[str, dict[str, Any]] = {kind: {} for kind in Study.model_fields}
    unread = {name for name, content in contents.items() if content is None}
    pinned: pins.Pins = {}
    try:
        if contents.get(pins.FILE) is not None:
            pinned = pins.read_pins(contents[pins.FILE])
    except OnetokError as error:
        problems.append(str(error))
    for name, content in contents.items():
        if name == pins.FILE:
            continue
        try:
            for kind, variant, value in _variants(name, content or {}):
                raw[kind][variant] = pins.with_pins(value, pinned)
        except OnetokError as error:
            problems.append(str(error))
            unread.add(name)
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems += [_explain(dict(detail)) for detail in error.errors()]
        raise OnetokError(_report(problems)) from None
    study._pinned = frozenset(pinned)
    problems += _check_references(study, unread)
    if not problems:
        problems += [f"{place(kind, name)}: {text}" for kind, name, text in inconsistencies(study)]
    if problems:
        raise OnetokError(_report(problems))
    return study


def place(kind: str, name: str) -> str:
    """Return where an entry is defined: the file and the path of its key."""
    family, variant = name.split("/", 1)
    return f"{_file_of(kind, name)}: {kind}.{family}.{variant}"


def _file_of(kind: str, name: str) -> str:
    """Return the params file that an entry belongs in."""
    return f"params/{FOLDER_OF_KIND[kind]}/{name.split('/', 1)[0]}.yaml"


def _report(problems: list[str]) -> str:
    return "\n".join(["params are not valid:", *(f"  {printable(problem)}" for problem in problems)])


def _variants(file: str, content: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, family/variant, value) of one file."""
    folder, family = Path(file).parent.name, Path(file).stem
    for kind, families in content.items():
        if kind.startswith("_"):
            continue
        if kind not in FOLDERS[folder]:
            raise OnetokError(f"{file}: {kind}: unknown key; {nearest(kind, FOLDERS[folder])}")
        if not isinstance(families, dict) or list(families) != [family]:
            found = shown(list(families) if isinstance(families, dict) else families)
            raise OnetokError(
                f"{file}: {kind}: expected one family named {family!r} as the file, found {found}"
            )
        if not isinstance(families[family], dict):
            raise OnetokError(f"{file}: {kind}.{family}: expected variants, found {shown(families[family])}")
        for variant, value in families[family].items():
            yield kind, f"{family}/{variant}", value


# ---------------------------------------------------------------------------------------------- messages


def _explain(detail: dict[str, Any]) -> str:
    """Turn one pydantic error into one line."""
    kind, name, *path = detail["loc"]
    keys, siblings, path = _walk(kind, path)
    where = ".".join([place(kind, name), *keys])
    found = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key, found value {shown(found)}; {nearest(str(path[-1]), siblings)}"
        case "missing":
            return (
                f"{where}: missing key; found {', '.join(found) if isinstance(found, dict) else shown(found)}"
            )
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in detail["ctx"]["expected_tags"].split(",")]
            return f"{where}.kind: found {shown(detail['ctx']['tag'])}; {nearest(detail['ctx']['tag'], tags)}"
        case "union_tag_not_found":
            return f"{where}: missing key 'kind'"
        case "literal_error":
            options = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            expected = f"expected {detail['ctx']['expected']}; {nearest(str(found), options)}"
            return f"{where}: found {shown(found)}, {expected}"
        case "value_error" if isinstance(found, dict | BaseModel):  # of several keys, which the message names
            return f"{where}: {detail['msg'].removeprefix('Value error, ')}"
    return f"{where}: found {shown(found)} ({type(found).__name__}); {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _walk(kind: str, path: list[Any]) -> tuple[list[str], list[str], list[Any]]:
    """Follow a location through the models: (keys as in the file, keys known at its end, keys left)."""
    (_, known_type) = get_args(Study.model_fields[kind].annotation)
    keys: list[str] = []
    siblings: list[str] = []
    current: Any = known_type
    for step in path:
        current, is_tag = _descend_union(current, step)
        if is_tag:
            continue
        keys.append(str(step))
        model = current if isinstance(current, type) and issubclass(current, BaseModel) else None
        siblings = list(model.model_fields) if model else []
        if model and step in model.model_fields:
            current = model.model_fields[step].annotation
            if model.model_fields[step].discriminator:
                current = Annotated[current, model.model_fields[step]]
        elif get_origin(current) is tuple and isinstance(step, int):
            current = get_args(current)[0]
    return keys, siblings, path


def _descend_union(current: Any, step: Any) -> tuple[Any, bool]:
    """Strip Annotated, None and union layers; pick the member whose `kind` is `step`."""
    if get_origin(current) is Annotated:
        current = get_args(current)[0]
    members = (
        [m for m in get_args(current) if m is not type(None)] if get_origin(current) is not tuple else []
    )
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    for member in models:
        if "kind" in member.model_fields and step in get_args(member.model_fields["kind"].annotation):
            return member, True
    return (models[0] if len(models) == 1 else current), False


def _check_references(study: Study, unread: set[str]) -> list[str]:
    """Return a line for each reference to what params do not have, unless it may be in one of the files `unread`."""
    problems = []
    for kind in Study.model_fields:
        for name, entry in getattr(study, kind).items():
            if not re.fullmatch(r"[a-z0-9_]+/[a-z0-9][a-z0-9-]*", name):
                problems.append(
                    f"{place(kind, name)}: a variant's name is lower case letters, digits and hyphens"
                )
            for path, referred, target in references(entry):
                known = getattr(study, referred)
                if target not in known and _file_of(referred, target) not in unread:
                    where = f"{place(kind, name)}.{path}"
                    problems.append(f"{where}: no {referred} named {target!r}; {nearest(target, known)}")
    for name, figure in study.figures.items():
        if isinstance(figure, CurvesFigure):
            for run in figure.runs:
                known = [f"{k}/{n}" for k in ("tokenizers", "generators") for n in getattr(study, k)]
                of, _, run_name = run.partition("/")
                if run not in known and not (of in FOLDER_OF_KIND and _file_of(of, run_name) in unread):
                    where = f"{place('figures', name)}.runs"
                    problems.append(f"{where}: no run named {run!r}; {nearest(run, known)}")
    return problems
