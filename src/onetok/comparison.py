"""Comparison of a study's tables in results/ with those that evidence/ keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from onetok.params import Table


def compare_table(table: Table, ours: Path, evidence: Path) -> tuple[str, list[str]]:
    """Compare two folders of a table: (verdict, the lines why)."""
    for folder in (evidence, ours):
        if not (folder / "table.csv").exists():
            return "missing", [f"{folder / 'table.csv'}: no such file"]
    if (ours / "table.csv").read_bytes() == (evidence / "table.csv").read_bytes():
        return "identical", []
    a, b = (pd.read_csv(folder / "table.csv") for folder in (ours, evidence))
    if list(a.columns) != list(b.columns) or list(a["label"]) != list(b["label"]):
        return "other rows or columns", ["the evidence was made with another table of params"]
    return "no spread kept", list(_deviations(table, a, b))


def _deviations(table: Table, ours: pd.DataFrame, evidence: pd.DataFrame) -> Iterator[str]:
    for column in table.columns:
        for label, a, b in zip(ours["label"], ours[column.metric], evidence[column.metric], strict=True):
            if not (a == b or (math.isnan(a) and math.isnan(b))):
                yield f"{label}, {column.label}: {a:.6g}, evidence {b:.6g}"
