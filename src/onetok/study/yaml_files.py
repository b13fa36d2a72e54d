"""Reading params files: YAML 1.2 as DVC reads it, and one line for each file that cannot be read."""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from onetok.errors import OnetokError, one_line, shown

DEPTH = 64  # of lists and mappings inside each other
DIGITS = 100  # of a number
# What editors and file managers leave behind. Names that begin with a dot are passed over as well.
_LEFT_BEHIND = re.compile(
    r".*~|#.*#|.*\.(bak|orig|rej|swp|swo|tmp)|thumbs\.db|desktop\.ini|4913", re.IGNORECASE
)


def entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder, by name, without hidden ones and those that editors leave behind.

    Raises OnetokError for a folder that cannot be listed.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise OnetokError(f"{folder}: cannot be listed: {error.strerror}") from None
    return [path for path in found if not (path.name.startswith(".") or _LEFT_BEHIND.fullmatch(path.name))]


def read_yaml(path: Path, name: str) -> Any:
    """Return what a file holds, which messages call `name`.

    Raises OnetokError with the line number for text that is no YAML, or that readers of YAML do not agree about.
    """
    return parse_yaml(_read_text(path, name), name)


def _read_text(path: Path, name: str) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would wait for somebody to write into it
            kind = "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
            raise OnetokError(f"{name}: is {kind}, expected a file")
        content = path.read_bytes()
    except OSError as error:
        if path.is_symlink() and not path.exists():
            target = path.readlink()
            raise OnetokError(f"{name}: is a link to {target}, which does not exist or leads back") from None
        raise OnetokError(f"{name}: cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        text = f"{name}: not UTF-8 text: {error.reason} (byte {content[error.start]:#04x}, line {line})"
        raise OnetokError(f"{text}; save it as UTF-8") from None


def parse_yaml(text: str, name: str) -> Any:
    """Return what YAML text holds: mappings with text as keys, lists, text, numbers, true, false and null."""
    if found := re.search(r"^%YAML\s+(?!1\.2\s)(\S+)", text, flags=re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        raise OnetokError(f"{name}: not valid YAML: version {found[1]} (line {line}), expected 1.2")
    reader = YAML(typ="safe", pure=True)
    reader.max_depth = DEPTH
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is defined twice
            node = reader.compose(text)
            if node is None:
                return None
            for problem, at in _problems(node, (), set()):
                raise OnetokError(f"{name}: not valid YAML: {problem} (line {at.start_mark.line + 1})")
            return reader.constructor.construct_document(node)
    except YAMLError as error:
        raise OnetokError(f"{name}: not valid YAML: {_explain(error, text)}") from None


def _explain(error: YAMLError, text: str) -> str:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"character {error.character!r} is not allowed (line {line})"
    if not isinstance(error, MarkedYAMLError):
        return one_line(error)
    mark = error.problem_mark or error.context_mark
    said = error.problem or error.context or ""
    problem = " ".join(f"{error.context}, {said}".split() if said.startswith("but ") else said.split())
    if isinstance(error, MaxDepthExceededError):
        problem = f"more than {DEPTH} lists and mappings inside each other"
    return f"{problem} (line {mark.line + 1})" if mark else problem


# ---------------------------------------------------------------------------------------------- what may stand there

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_CORE = {  # what plain text stands for by YAML 1.2's core schema; of other text readers make different things
    "int": _INTEGER,
    "float": _FLOAT,
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "null": re.compile(r"null|Null|NULL|~|"),
    "str": re.compile(r".*", re.DOTALL),
}


def _problems(node: Node, above: tuple[Node, ...], done: set[int]) -> Iterator[tuple[str, Node]]:
    """Yield (what is wrong, where) of a node and of all below it, once for each that has aliases."""
    if any(node is other for other in above):
        yield "an alias that stands inside its own anchor", node
    if id(node) in done:
        return
    done.add(id(node))
    if isinstance(node, ScalarNode):
        yield from _scalar_problems(node)
    elif node.tag not in (_TAG + "map", _TAG + "seq"):
        yield f"the tag {node.tag}, expected none", node
    elif isinstance(node, MappingNode):
        yield from _key_problems(node)
        for _, value in node.value:
            yield from _problems(value, (*above, node), done)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            yield from _problems(value, (*above, node), done)


def _scalar_problems(node: ScalarNode) -> Iterator[tuple[str, Node]]:
    kind = str(node.tag).removeprefix(_TAG)
    if kind == "timestamp":
        yield f"{shown(node.value)} is read as a date by some: write it in quotes", node
    elif kind in ("value", "merge"):
        yield f"{shown(node.value)} is a sign of YAML's own: write it in quotes", node
    elif kind not in _CORE:
        yield f"the tag {node.tag} of {shown(node.value)}, expected none", node
    elif not _CORE[kind].fullmatch(node.value):
        yield f"{shown(node.value)} is read as {kind} by some and as text by others: write it in quotes", node
    elif kind in ("int", "float") and len(node.value) > DIGITS:
        yield f"a number of {len(node.value)} digits, expected at most {DIGITS}", node


def _key_problems(node: MappingNode) -> Iterator[tuple[str, Node]]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, MappingNode):
            yield "a mapping as a key, as of a template's {{ x }}: fill it in, or write it in quotes", key
        elif isinstance(key, SequenceNode):
            yield "a list as a key, expected text", key
        elif key.tag not in (_TAG + "str", _TAG + "merge"):
            kind = str(key.tag).removeprefix(_TAG)
            yield f"the key {shown(key.value)} is read as {kind}, expected text: write it in quotes", key
        elif key.value in lines:
            yield f"key {key.value!r} appears twice, first in line {lines[key.value]}", key
        else:
            lines[key.value] = key.start_mark.line + 1
