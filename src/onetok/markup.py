"""Names and sentences of people as they are in Markdown and LaTeX: no character of theirs is read as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

# GitHub reads dollars as mathematics, and an underscore between two letters as itself.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<|~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|^[#>](?=[#>\s])|^[+-](?=\s)|^\d+(?=[.)]\s)"
)


def one_line(text: str) -> str:
    """Return text without line ends, which end a cell, an item of a list and a comment."""
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(lambda found: _escaped(found[0]), one_line(text))


def _escaped(found: str) -> str:
    return found + "\\" if found.isdigit() else "\\" + found


def markdown_table(
    title: str,
    headers: Sequence[str],
    cells: Iterable[Sequence[str]],
    align: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return a table below its title, with notes, which are Markdown, below it."""
    table = tabulate(
        [[markdown_text(cell) for cell in row] for row in cells],
        [markdown_text(header) for header in headers],
        tablefmt="github",
        colalign=align,
        disable_numparse=True,
    )
    lines = [
        f"### {markdown_text(title)}",
        "",
        table,
        "",
        *(f"- {note}" for note in notes),
        "",
    ]
    return "\n".join(lines)


def latex_rows(body: str) -> str:
    """Return a LaTeX table whose arrows are mathematics, and whose rows begin with no option of the row before.

    The special characters of its cells are escaped already, by tabulate.
    """
    body = body.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
    return re.sub(r"(?m)^( *)([\[*])", r"\1{\2}", body)
