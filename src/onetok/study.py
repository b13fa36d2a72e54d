"""Reading a study: every params file, strictly, with one line for each thing that is wrong.

Imports no torch: Snakemake reads a study at every start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from onetok.consistency import inconsistencies
from onetok.errors import OnetokError, nearest, one_line, shown
from onetok.params import CurvesFigure, RefersTo, Study

# Which kinds a file in each folder of params/ may define.
FOLDERS = {
    "datasets": ("datasets",),
    "encoders": ("encoders",),
    "tokenizers": ("tokenizers", "tokens"),
    "generators": ("generators", "samples"),
    "benchmarks": ("benchmarks", "speeds"),
    "tables": ("tables", "figures"),
}


def load_study(directory: Path = Path()) -> Study:
    """Read and check every params file of a study.

    Raises OnetokError with one line for each thing that is wrong: file, path, what was found, what is known.
    """
    root = directory / "params"
    if not root.is_dir():
        raise OnetokError(f"{root}: no such folder; a study is a directory with params/")
    problems: list[str] = []
    raw: dict[str, dict[str, Any]] = {kind: {} for kind in Study.model_fields}
    files: dict[tuple[str, str], str] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "schema.json"):
        if path.suffix != ".yaml":
            problems.append(
                f"{path.relative_to(directory).as_posix()}: expected only files named *.yaml in params/"
            )
            continue
        shown = path.relative_to(directory).as_posix()
        try:
            variants = list(_variants(path, shown))
        except OnetokError as error:
            problems.append(str(error))
            continue
        for kind, name, value in variants:
            if name in raw[kind]:
                problems.append(
                    f"{shown}: {kind}.{name.replace('/', '.')}: also defined in {files[kind, name]}"
                )
            raw[kind][name] = value
            files[kind, name] = shown
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems += [_explain(dict(detail), files) for detail in error.errors()]
        raise OnetokError(_report(problems)) from None
    problems += _check_references(study, files)
    if not problems:
        problems += [f"{_place(files, kind, name)}: {text}" for kind, name, text in inconsistencies(study)]
    if problems:
        raise OnetokError(_report(problems))
    return study


def _report(problems: list[str]) -> str:
    return "\n".join(["params are not valid:", *(f"  {problem}" for problem in problems)])


def _variants(path: Path, shown: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (kind, family/variant, value) of one file."""
    folder, family = path.parent.name, path.stem
    if folder not in FOLDERS:
        raise OnetokError(f"{shown}: folder {folder!r} is unknown; {nearest(folder, FOLDERS)}")
    content = _read_yaml(path, shown)
    for kind, families in content.items():
        if kind.startswith("_"):
            continue
        if kind not in FOLDERS[folder]:
            raise OnetokError(f"{shown}: {kind}: unknown key; {nearest(kind, FOLDERS[folder])}")
        if not isinstance(families, dict) or list(families) != [family]:
            found = list(families) if isinstance(families, dict) else families
            raise OnetokError(
                f"{shown}: {kind}: expected one family named {family!r} as the file, found {found}"
            )
        if not isinstance(families[family], dict):
            raise OnetokError(f"{shown}: {kind}.{family}: expected variants, found {families[family]!r}")
        for variant, value in families[family].items():
            yield kind, f"{family}/{variant}", value


# ---------------------------------------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (1e-4 is a number), and no key twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node) if key_node.tag != "tag:yaml.org,2002:merge" else None
        if key is not None and key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} appears twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def _read_yaml(path: Path, shown: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OnetokError(f"{shown}: not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise OnetokError(f"{shown}: expected a mapping of kinds, found {type(content).__name__}")
    return content


# ---------------------------------------------------------------------------------------------- messages


def _place(files: Mapping[tuple[str, str], str], kind: str, name: str) -> str:
    return f"{files[kind, name]}: {kind}.{name.replace('/', '.')}"


def _explain(detail: dict[str, Any], files: Mapping[tuple[str, str], str]) -> str:
    """Turn one pydantic error into one line."""
    kind, name, *path = detail["loc"]
    keys, siblings, path = _walk(kind, path)
    where = ".".join([_place(files, kind, name), *keys])
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


def _check_references(study: Study, files: Mapping[tuple[str, str], str]) -> list[str]:
    problems = []
    for kind in Study.model_fields:
        for name, entry in getattr(study, kind).items():
            if not re.fullmatch(r"[a-z0-9_]+/[a-z0-9][a-z0-9-]*", name):
                problems.append(
                    f"{_place(files, kind, name)}: a variant's name is lower case letters, digits and hyphens"
                )
            for path, referred, target in _references(entry):
                known = getattr(study, referred)
                if target not in known:
                    where = f"{_place(files, kind, name)}.{path}"
                    problems.append(f"{where}: no {referred} named {target!r}; {nearest(target, known)}")
    for name, figure in study.figures.items():
        if isinstance(figure, CurvesFigure):
            for run in figure.runs:
                known = [f"{k}/{n}" for k in ("tokenizers", "generators") for n in getattr(study, k)]
                if run not in known:
                    where = f"{_place(files, 'figures', name)}.runs"
                    problems.append(f"{where}: no run named {run!r}; {nearest(run, known)}")
    return problems


def _references(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (path, kind referred to, name) of every field below `model` that names a variant."""
    for field, info in type(model).model_fields.items():
        value = getattr(model, field)
        kinds = [m.kind for m in _metadata(info) if isinstance(m, RefersTo)]
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
            if isinstance(item, BaseModel):
                yield from _references(item, f"{prefix}{field}.")
            elif kinds and item is not None:
                yield f"{prefix}{field}", kinds[0], item


def _metadata(info: Any) -> Iterator[Any]:
    """Yield the annotations of a field, those inside `X | None` and `tuple[X, ...]` too."""
    yield from info.metadata
    pending = [info.annotation]
    while pending:
        annotation = pending.pop()
        if get_origin(annotation) is Annotated:
            yield from annotation.__metadata__
        pending += [arg for arg in get_args(annotation) if arg is not ...]
