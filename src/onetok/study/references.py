"""Which entries of params an entry names: the fields marked RefersTo, however deep they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from onetok.study.schema.base import RefersTo


class Reference(NamedTuple):
    path: str  # of the field, keys joined by dots
    kind: str  # of params that it names an entry of
    name: str  # family/variant


def references(entry: BaseModel, prefix: str = "") -> Iterator[Reference]:
    """Yield every reference of an entry, in the order of its fields."""
    for field, info in type(entry).model_fields.items():
        value = getattr(entry, field)
        kinds = [m.kind for m in annotations_of(info) if isinstance(m, RefersTo)]
        values = value if isinstance(value, tuple) else (value,)
        for item in values:
            if isinstance(item, BaseModel):
                yield from references(item, f"{prefix}{field}.")
            elif kinds and item is not None:
                yield Reference(f"{prefix}{field}", kinds[0], item)


def annotations_of(info: Any) -> Iterator[Any]:
    """Yield the annotations of a field, those inside `X | None` and `tuple[X, ...]` too."""
    yield from info.metadata
    pending = [info.annotation]
    while pending:
        annotation = pending.pop()
        if get_origin(annotation) is Annotated:
            yield from annotation.__metadata__
        pending += [arg for arg in get_args(annotation) if arg is not ...]
