"""Editors show what params/schema.json says of a value, so every field of params says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from onetok.study.schema.base import Count, Strict
from onetok.study.schema.records import Record
from onetok.study.schema.study import Study


def test_every_field_says_what_it_is():
    # Records are not in params, but people write them too, beside their own images.
    missing = {field for root in (Study, Record) for field in undescribed(root)}
    assert not missing, f"fields without a description: {', '.join(sorted(missing))}"


def undescribed(root: type[BaseModel]) -> Iterator[str]:
    """Yield Class.field for each field without a description, under the class that defines it."""
    for model in models(root):
        for name, field in model.model_fields.items():
            if not (field.description or is_explained_kind(model, name, field)):
                yield f"{origin(model, name).__name__}.{name}"


def models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a model and all that its fields lead to, through unions, tuples, mappings and annotations."""
    found: list[type[BaseModel]] = []
    pending: list[Any] = [root]
    while pending:
        part = pending.pop()
        if isinstance(part, type) and issubclass(part, BaseModel):
            if part not in found:
                found.append(part)
                pending += [field.annotation for field in part.model_fields.values()]
        else:
            pending += get_args(part)
    return found


def is_explained_kind(model: type[BaseModel], name: str, field: FieldInfo) -> bool:
    """Say whether a field only tells its model from the others of a union, and the model's docstring says the rest."""
    told_apart = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    return name == "kind" and told_apart and bool(vars(model).get("__doc__"))


def origin(model: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the class whose definition of a field counts."""
    return next(base for base in model.__mro__ if name in vars(base).get("__annotations__", {}))


class Inner(Strict):
    """Something of a kind."""

    kind: Literal["inner"]
    size: Count = Field(description="side, pixels")
    depth: Count


class Unexplained(Inner):
    kind: Literal["unexplained"]
    depth: Count = Field(description="layers")


class Choice(Strict):
    """A kind of several values is a choice like others."""

    kind: Literal["one", "other"]


class Outer(Strict):
    parts: tuple[Inner, ...] = Field(description="parts")
    named: dict[str, Unexplained] = Field(description="parts by name")
    chosen: Choice | None = Field(description="choice; null: none")


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (Inner, {"Inner.depth"}),
        (Unexplained, {"Unexplained.kind"}),
        (Outer, {"Inner.depth", "Unexplained.kind", "Choice.kind"}),
    ],
)
def test_fields_without_a_description_are_found_wherever_they_are(root, expected):
    assert set(undescribed(root)) == expected
