"""Text from params and captions in Markdown and LaTeX tables, escaped so that no character acts as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

# GitHub treats dollar signs as mathematics. An underscore between two letters needs no escape.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<|~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|^[#>](?=[#>\s])|^[+-](?=\s)|^\d+(?=[.)]\s)"
)


def one_line(text: str) -> str:
    """Return text on one line: a line end would end a table cell, a list item or a comment."""
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """Return text escaped for Markdown, on one line."""
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
    """Return a Markdown table with its title above it and notes below it.

    Title, headers and cells are escaped; notes are Markdown already.
    """
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
    """Return tabulate's LaTeX table with arrows as mathematics.

    A row that begins with [ or * gets braces, because LaTeX would take it for an option of the preceding row's end.
    tabulate has escaped the other special characters.
    """
    body = body.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
    return re.sub(r"(?m)^( *)([\[*])", r"\1{\2}", body)
