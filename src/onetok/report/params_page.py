"""The reference of params as a page: every kind of entry with its keys, their values and what they mean.

It is made from the schema that params are checked against (`onetok.study.schema`), through its JSON Schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onetok.report.markup import one_line
from onetok.study.schema.study import Study

HEAD = """# Params

Every key that a params file may have. A file in `params/` holds entries by kind, family and variant, such as
`generators: {maskgit: {tiny: {…}}}`; what follows a `kind` depends on it. No key has a default and an unknown key is an
error. Made from the schema by `onetok generated`; editors read the same from `params/schema.json`.
"""

Schema = dict[str, Any]
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_UNBOUNDED = 1e9  # bounds beyond it stand for "finite" or for what an integer of the machine holds


def params_page() -> str:
    """Return the reference as Markdown."""
    schema = Study.model_json_schema()
    return "\n".join([HEAD, *_Reference(schema["$defs"]).kinds(schema["properties"])])


class _Reference:
    """Writes each definition once, below the first kind that uses it."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self.definitions = definitions
        self.written: set[str] = set()

    def kinds(self, kinds: dict[str, Schema]) -> Iterator[str]:
        for kind, content in kinds.items():
            yield f"## {kind}\n"
            entry = content["additionalProperties"]
            yield f"{_sentence(content['description'])} An entry is {self.values(entry)}.\n"
            for name in _named(entry):
                yield from self.definition(name)

    def definition(self, name: str) -> Iterator[str]:
        """Yield a section on a definition, then the sections on those that its keys name."""
        if name in self.written:
            return
        self.written.add(name)
        definition = self.definitions[name]
        yield f"### {name}\n"
        if "description" in definition:
            yield f"{_text(definition['description'])}\n"
        keys = definition.get("properties", {})
        if keys:
            yield "| key | value | meaning |\n|---|---|---|"
            for key, content in keys.items():
                meaning = _cell(_text(content.get("description", "")))
                yield f"| `{key}` | {_cell(self.values(content))} | {meaning} |"
            yield ""
        elif "enum" in definition:
            yield f"One of {self.values(definition)}.\n"
        for content in keys.values():
            for inner in _named(content):
                yield from self.definition(inner)

    def values(self, content: Schema) -> str:
        """Return what a value may be, in words, with links to definitions."""
        if "$ref" in content:
            name = content["$ref"].rsplit("/", 1)[1]
            return f"[{name}](#{name.lower()})"
        if choices := content.get("oneOf") or content.get("anyOf"):
            return " or ".join(self.values(choice) for choice in choices)
        if "const" in content or "enum" in content:
            return " or ".join(f"`{value}`" for value in content.get("enum", [content.get("const")]))
        match content.get("type"):
            case "null":
                return "null"
            case "array" if "prefixItems" in content:
                return f"[{', '.join(self.values(item) for item in content['prefixItems'])}]"
            case "array":
                return f"list of {self.values(content.get('items', {}))}"
            case "object":
                return f"mapping to {self.values(content.get('additionalProperties') or {})}"
            case str(kind):
                bounds = [
                    f"{sign} {content[key]:g}" for key, sign in _BOUNDS.items() if _bounds(content, key)
                ]
                return f"{_TYPES[kind]} ({', '.join(bounds)})" if bounds else _TYPES[kind]
            case _:
                return "any value"


def _bounds(content: Schema, key: str) -> bool:
    return key in content and abs(content[key]) < _UNBOUNDED


def _named(content: Any) -> Iterator[str]:
    """Yield the names of the definitions that a part of the schema refers to."""
    if isinstance(content, dict):
        if "$ref" in content:
            yield content["$ref"].rsplit("/", 1)[1]
        for key, value in content.items():
            if key != "discriminator":
                yield from _named(value)
    elif isinstance(content, list):
        for value in content:
            yield from _named(value)


def _text(description: str) -> str:
    """Return a description of the schema, whose code is in backticks as in Markdown, on one line."""
    return one_line(description).replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
