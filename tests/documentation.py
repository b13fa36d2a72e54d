"""The pages that tell readers what to type, and the blocks in them: indented or fenced commands, params and Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.conftest import REPOSITORY

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs/how-to").glob("*.md")),
    *sorted((REPOSITORY / "docs/explanation").glob("*.md")),
]
PROGRAMS = ("onetok", "snakemake", "dvc", "make", "python", "mkdir", "cp", "git", "hf")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int  # of its first line in the page
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def is_python(self) -> bool:
        return (
            re.search(r"^(from \w+ import|import \w+|tokenizer = |generator = )", self.text, re.MULTILINE)
            is not None
        )

    @property
    def is_params(self) -> bool:
        return re.match(r"(datasets|spreads):", self.text) is not None

    def lines(self) -> list[str]:
        """Return its command lines without comments; none for a block of something else."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = [re.sub(r"\s+#.*$", "", line) for line in joined.splitlines()]
        return [line for line in lines if line.split(" ", 1)[0] in PROGRAMS]

    def commands(self) -> list[list[str]]:
        """Return its command lines, split as a shell would."""
        return [_braces(shlex.split(part)) for line in self.lines() for part in line.split(" && ")]


def _braces(words: list[str]) -> list[str]:
    """Expand a{b,c}d to abd acd, as a shell does."""
    expanded = []
    for word in words:
        found = re.fullmatch(r"([^{]*)\{([\w./,-]+)\}(.*)", word)
        expanded += [found[1] + part + found[3] for part in found[2].split(",")] if found else [word]
    return expanded


def inline_commands(page: Path) -> list[str]:
    """Return the commands that sentences of a page name, such as `make test`; a program alone is none."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]
    spans = [span.removeprefix(".venv/bin/") for span in spans]
    return [span for span in spans if span.split(" ", 1)[0] in PROGRAMS and " " in span]


def prose(page: Path) -> str:
    """Return a page without its blocks and without the tables that are generated into it."""
    inside = {
        number
        for block in blocks(page)
        for number in range(block.line, block.line + len(block.text.splitlines()))
    }
    lines = page.read_text(encoding="utf-8").splitlines()
    kept = [line for number, line in enumerate(lines, start=1) if number not in inside]
    text = "\n".join(line for line in kept if not line.startswith("```"))
    return re.sub(r"<!-- tables: .*<!-- end of tables -->", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of a page may name, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path) -> Iterator[Block]:
    """Yield the indented and fenced blocks of a page, without the tables that are generated into it."""
    held: list[str] = []
    start, fenced = 0, False
    for number, line in enumerate([*page.read_text(encoding="utf-8").splitlines(), ""], start=1):
        fence = line.startswith("```")
        inside = (
            (fenced and not fence)
            or (not fenced and line.startswith("    "))
            or (held and not fenced and not line)
        )
        if inside and not fence:
            if not held:
                start = number
            held.append(line)
        elif held:
            yield Block(page, start, dedent("\n".join(held)).strip("\n"))
            held = []
        fenced = fenced != fence
    if held:
        yield Block(page, start, dedent("\n".join(held)).strip("\n"))
