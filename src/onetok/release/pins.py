"""Looks up the pins of all weights on the Hub that params name, and writes them to params/pins.yaml."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from onetok.errors import OnetokError
from onetok.release.download import Pin, find_pins
from onetok.study.pins import FILE, PINS, Pins, pin_key, read_pins, weights_of
from onetok.study.schema.study import Study
from onetok.study.yaml_files import read_yaml

HEADER = """\
# yaml-language-server: $schema=schema.json
# The exact versions of all released weights: what a run downloads, and nothing else. Entries of params name hub and
# file, and their null pins are the ones of this file. `onetok pin --all --write` fills in what is null here.
pins: {}
"""


@dataclass
class Found:
    """What the Hub says of the files of a study, beside what pins.yaml says."""

    before: str  # the text of pins.yaml, or that of an empty one
    after: str  # the same with what was looked up
    problems: list[str] = field(
        default_factory=list
    )  # a line for each repository that could not be looked up
    moved: list[str] = field(default_factory=list)  # a line for each file that is another one today

    @property
    def diff(self) -> str:
        """The change of pins.yaml as a unified diff, empty for none."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            FILE,
            f"{FILE}, looked up",
        )
        return "".join(lines)


def look_up(study: Study, directory: Path, *, update: bool) -> Found:
    """Look up the latest version of every file on the Hub that params name.

    Pins that are null get it. A pinned file whose digest is another one today is reported, and pinned anew with
    `update` alone. Raises OnetokError for a pins.yaml that is damaged.
    """
    path = directory / FILE
    before = path.read_text(encoding="utf-8") if path.exists() else HEADER
    pins = read_pins(read_yaml(path, FILE)) if path.exists() else {}
    latest, problems = _latest(study, pins)
    changes, moved = {}, []
    for (hub, file), pin in latest.items():
        known = pins.get(pin_key(hub, file))
        pinned = known is not None and known.sha256 is not None and known.revision is not None
        if pinned and known is not None and known.sha256 != pin.sha256:
            moved.append(
                f"{hub} {file}: sha256 {known.sha256} is pinned, main has {pin.sha256} at {pin.revision}"
            )
        if not pinned or (update and known is not None and known.sha256 != pin.sha256):
            changes[hub, file] = pin
    return Found(before, _with(before, changes), problems, moved)


def _latest(study: Study, pins: Pins) -> tuple[dict[tuple[str, str], Pin], list[str]]:
    """Return the latest pin of every file on the Hub by repository and file, and what went wrong."""
    entries = (*study.encoders.values(), *study.tokenizers.values(), *study.generators.values())
    named = [
        weights for entry in entries for weights in weights_of(entry).values() if weights.hub is not None
    ]
    files: dict[str, dict[str, None]] = {}
    for hub, file in [
        *((pinned.hub, pinned.file) for pinned in pins.values()),
        *((str(weights.hub), weights.file) for weights in named),
    ]:
        files.setdefault(hub, {})[file] = None
    found: dict[tuple[str, str], Pin] = {}
    problems: list[str] = []
    for hub, wanted in files.items():
        try:
            found |= {(hub, file): pin for file, pin in find_pins(hub, wanted, "main").items()}
        except OnetokError as error:
            problems.append(str(error))
    return found, problems


def _with(text: str, changes: Mapping[tuple[str, str], Pin]) -> str:
    """Return the text of pins.yaml with other pins; comments and the order of entries stay."""
    if not changes:
        return text
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    content = yaml.load(text)
    if not content["pins"]:
        content["pins"].fa.set_block_style()
    for (hub, file), pin in changes.items():
        entry = content["pins"].setdefault(pin_key(hub, file), {"hub": hub, "file": file})
        for name, value in zip(PINS, pin, strict=True):
            entry[name] = DoubleQuotedScalarString(value)  # quotes keep a digest of digits alone a text
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
