"""The pins of weights on the Hub, in one file: params/pins.yaml.

Entries of params name a repository and a file, and leave `revision` and `sha256` null. What pins.yaml says of that file
stands in their place, as if it were written there: in receipts, in messages, and for whoever fetches the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from onetok.errors import OnetokError, shown
from onetok.study.schema.base import Commit, Name, Repository, Sha256, Strict
from onetok.study.schema.encoders import WeightsFile

FILE = "params/pins.yaml"
PINS = ("revision", "sha256")

Pins = dict[str, "PinnedFile"]  # by the key of the file


class PinnedFile(Strict):
    """A file on the Hub and the version of it that a study uses."""

    hub: Repository = Field(description="repository on the Hub")
    file: Name = Field(description="path in the repository")
    revision: Commit | None = Field(description="commit of the repository; null: not looked up yet")
    sha256: Sha256 | None = Field(description="SHA-256 digest of the file; null: not looked up yet")


_FORM = TypeAdapter(dict[str, PinnedFile])


def pin_key(hub: str, file: str) -> str:
    """Return the key of a file in pins.yaml: without dots, which DVC takes for a path of keys."""
    return re.sub(r"[^a-z0-9]+", "-", f"{hub}/{file}".lower()).strip("-")


def read_pins(content: Any) -> Pins:
    """Return the pins that the content of pins.yaml holds, by their keys.

    Raises OnetokError, one line, for another form.
    """
    if not isinstance(content, dict) or list(content) != ["pins"]:
        raise OnetokError(f"{FILE}: expected one key, pins, found {shown(content)}")
    try:
        pins = _FORM.validate_python(content["pins"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["pins", *map(str, first["loc"])])
        raise OnetokError(f"{FILE}: {where}: found {shown(first['input'])}; {first['msg']}") from None
    for key, pinned in pins.items():
        if key != (expected := pin_key(pinned.hub, pinned.file)):
            raise OnetokError(
                f"{FILE}: pins.{key}: expected the key {expected} for {pinned.file} of {pinned.hub}"
            )
    return pins


def weights_of(entry: BaseModel) -> dict[str, WeightsFile]:
    """Return the files of weights that an entry of params names, by field; dots lead into fields of fields."""
    found = {}
    for field in type(entry).model_fields:
        value = getattr(entry, field)
        if isinstance(value, WeightsFile):
            found[field] = value
        elif isinstance(value, BaseModel):
            found |= {f"{field}.{inner}": weights for inner, weights in weights_of(value).items()}
    return found


def with_pins(value: Any, pins: Mapping[str, PinnedFile]) -> Any:
    """Return a value of params in which the null pins of files on the Hub are those of pins.yaml."""
    if isinstance(value, list):
        return [with_pins(item, pins) for item in value]
    if not isinstance(value, dict):
        return value
    filled = {key: with_pins(item, pins) for key, item in value.items()}
    if isinstance(value.get("hub"), str) and isinstance(value.get("file"), str):
        pinned = pins.get(pin_key(value["hub"], value["file"]))
        if pinned is not None and all(value.get(pin, "") is None for pin in PINS):
            filled |= {pin: getattr(pinned, pin) for pin in PINS}
    return filled
