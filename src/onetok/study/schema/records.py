"""Records: what is known of a sample beside image, class and caption: aesthetic score, second caption, GenEval prompt.

    {"aesthetic": 5.2, "augmented": "a drawing of …", "prompt": {"tag": "colors", "include": [{"class": …}], …}}

`prompt` is a line of GenEval's evaluation_metadata.jsonl (arXiv 2310.11513), with `held_out` as one more key. Keys
that GenEval's own lines leave out have defaults here.
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from onetok.errors import OnetokError, nearest
from onetok.study.schema.base import Count, Positive, Strict
from onetok.study.schema.datasets import Relation, Task

# GenEval's colours, and cyan, which scenes have
Color = Literal[
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "cyan"
]


class _Named(Strict):
    """Something of a class; JSON calls it `class`."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(
        validation_alias="class",
        serialization_alias="class",
        description="name of the class (`class` in JSON)",
    )
    count: Positive = Field(description="number of objects")


class Wanted(_Named):
    """At least `count` objects of a class, of this colour and at this side of item `position[1]` of the list."""

    color: Color | None = Field(default=None, description="colour that they must have; null: any")
    position: tuple[Relation, Count] | None = Field(
        default=None,
        strict=False,
        description="[relation, number of an earlier item of `include`, from 0]: where they must lie, seen"
        " from that item's objects; null: anywhere",
    )


class Excluded(_Named):
    """Wrong where `count` or more objects of a class are seen."""


class Prompt(Strict):
    """What a picture of a caption must show."""

    tag: Task = Field(description="the task of GenEval that the prompt belongs to")
    include: tuple[Wanted, ...] = Field(strict=False, min_length=1, description="objects that must be seen")
    exclude: tuple[Excluded, ...] = Field(
        default=(), strict=False, description="objects that must not be seen, or not so many of them"
    )
    prompt: str = Field(description="the caption")
    held_out: bool = Field(
        default=False, description="whether training asks for nothing of this kind; then it is scored apart"
    )

    @model_validator(mode="after")
    def _positions_look_back(self) -> Self:
        for index, wanted in enumerate(self.include):
            if wanted.position is not None and wanted.position[1] >= index:
                raise ValueError(
                    f"item {index} lies {wanted.position[0]} item {wanted.position[1]}, not before it"
                )
        return self


class Record(Strict):
    """What is known of a sample beside image, class and caption."""

    aesthetic: float = Field(description="score of the picture's looks; published data has about 4 to 7")
    augmented: str | None = Field(description="a longer caption, drawn instead of the caption at times")
    prompt: Prompt | None = Field(
        description="what the picture must show, for GenEval; null: nothing is known of it"
    )


def read_record(content: bytes, place: str | Path) -> Record:
    """Read a record; `place` is for messages. Raises OnetokError where keys or values are not the expected ones."""
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_distinct)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # JSON may spell half a character: "\\ud800"
        return Record.model_validate(found)
    except (UnicodeError, json.JSONDecodeError) as error:
        raise OnetokError(f"{place}: not JSON in UTF-8 ({error})") from None
    except RecursionError:
        raise OnetokError(f"{place}: its brackets are nested too deep for a record") from None
    except ValidationError as error:
        raise OnetokError(f"{place}: {_explain(error)}") from None
    except ValueError as error:  # a number of thousands of digits, or a key that stands twice
        raise OnetokError(f"{place}: not a record ({str(error).split(';')[0]})") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {_short(twice)} stands twice")
    return found


def _short(value: object) -> str:
    """Return a value as part of a message, its middle left out where it is long."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:60]}…{text[-20:]}"


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) + ": " if first["loc"] else ""
    match first["type"]:
        case "extra_forbidden":
            return f"{where}unknown key, found value {_short(first['input'])}"
        case "missing":
            return f"{where}missing key, found {', '.join(map(_short, first['input'])) or 'none'}"
    if first["loc"] == ("prompt", "tag"):
        tags = get_args(Task)
        known = f"{nearest(str(first['input']), tags)} (of {', '.join(tags)})"
        return f"{where}found {_short(first['input'])}; {known}"
    return f"{where}{first['msg'][0].lower()}{first['msg'][1:]}, found {_short(first['input'])}"


def write_record(record: Record) -> bytes:
    """Return the JSON of a record; the same record gives the same bytes."""
    content: dict[str, Any] = record.model_dump(by_alias=True)
    if record.prompt is not None:
        content["prompt"] = record.prompt.model_dump(by_alias=True, exclude_none=True)
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8")
