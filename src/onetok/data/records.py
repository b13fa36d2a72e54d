"""Records: what a dataset says of a sample beside its image, class and caption.

    {"aesthetic": 5.2, "augmented": "a drawing of …", "prompt": {"tag": "colors", "include": [{"class": …}], …}}

`prompt` is a line of GenEval's evaluation_metadata.jsonl (arXiv 2310.11513), with `held_out` as one more key. What its
own lines leave out where it does not apply has a default here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from onetok.errors import OnetokError, nearest
from onetok.params import Count, Positive, Relation, Strict, Task


class _Named(Strict):
    """Something of a class; JSON calls it `class`."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(validation_alias="class", serialization_alias="class")
    count: Positive


class Wanted(_Named):
    """At least `count` objects of a class, of this colour and at this side of item `position[1]` of the list."""

    color: str | None = None
    position: tuple[Relation, Count] | None = Field(default=None, strict=False)


class Excluded(_Named):
    """Wrong where `count` or more objects of a class are seen."""


class Prompt(Strict):
    """What a picture of a caption must show."""

    tag: Task = Field(description="the task")
    include: tuple[Wanted, ...] = Field(strict=False)
    exclude: tuple[Excluded, ...] = Field(default=(), strict=False)
    prompt: str = Field(description="the caption")
    held_out: bool = Field(default=False, description="training asks for nothing of this kind")

    @model_validator(mode="after")
    def _positions_look_back(self) -> Self:
        for index, wanted in enumerate(self.include):
            if wanted.position is not None and wanted.position[1] >= index:
                raise ValueError(
                    f"item {index} lies {wanted.position[0]} item {wanted.position[1]}, not before it"
                )
        return self


class Record(Strict):
    aesthetic: float = Field(description="score of the picture's looks; published data has about 4 to 7")
    augmented: str | None = Field(description="a longer caption, drawn instead of the caption at times")
    prompt: Prompt | None


def read_record(content: bytes, place: str | Path) -> Record:
    """Read a record; `place` is for messages. Raises OnetokError where keys or values are not the expected ones."""
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # JSON may spell half a character: "\\ud800"
        return Record.model_validate(found)
    except (UnicodeError, json.JSONDecodeError) as error:
        raise OnetokError(f"{place}: not JSON in UTF-8 ({error})") from None
    except ValidationError as error:
        raise OnetokError(f"{place}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) + ": " if first["loc"] else ""
    match first["type"]:
        case "extra_forbidden":
            return f"{where}unknown key, found value {first['input']!r}"
        case "missing":
            return f"{where}missing key, found {', '.join(first['input']) or 'none'}"
    if first["loc"] == ("prompt", "tag"):
        tags = get_args(Task)
        known = f"{nearest(str(first['input']), tags)} (of {', '.join(tags)})"
        return f"{where}found {first['input']!r}; {known}"
    return f"{where}{first['msg'][0].lower()}{first['msg'][1:]}, found {first['input']!r}"


def write_record(record: Record) -> bytes:
    """Return the JSON of a record; the same record gives the same bytes."""
    content: dict[str, Any] = record.model_dump(by_alias=True)
    if record.prompt is not None:
        content["prompt"] = record.prompt.model_dump(by_alias=True, exclude_none=True)
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8")
