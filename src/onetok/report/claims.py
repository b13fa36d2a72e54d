"""Claims of tables: sentences of params about two rows, each checked against the figures of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import gt, lt

import pandas as pd

from onetok.study.schema.tables import Claim, Table

RELATIONS: dict[str, Callable[[float, float], bool]] = {"above": gt, "below": lt}


def holds(claim: Claim, frame: pd.DataFrame) -> bool | None:
    """Return whether a claim is true of the figures of a table; None if one of its two figures is not measured."""
    row, other = compared(claim, frame)
    if math.isnan(row) or math.isnan(other):
        return None
    return RELATIONS[claim.relation](row, other)


def compared(claim: Claim, frame: pd.DataFrame) -> tuple[float, float]:
    """Return the claim's metric in its row and in the row that it is compared with."""
    figures = dict(zip(frame["label"], frame[claim.metric], strict=True))
    return float(figures[claim.row]), float(figures[claim.other])


def claim_lines(table: Table, frame: pd.DataFrame) -> Iterator[str]:
    """Yield a line for each claim of a table, with its outcome; `frame` holds the figures, one row for each label."""
    decimals = {column.metric: column.decimals for column in table.columns}
    for claim in table.claims:
        outcome = holds(claim, frame)
        if outcome is None:
            yield f"{claim.text} Not measured here."
            continue
        row, other = (f"{figure:.{decimals[claim.metric]}f}" for figure in compared(claim, frame))
        yield f"{claim.text} {'Holds' if outcome else 'Does not hold'} here: {row} against {other}."
