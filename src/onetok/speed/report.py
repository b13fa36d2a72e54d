"""Measurements of speed as JSON, CSV and Markdown, with the machine and the definitions below the table."""

from __future__ import annotations

import platform
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from tabulate import tabulate

from onetok.params import Execution
from onetok.speed.measure import Measurement
from onetok.speed.products import Product


class Row(NamedTuple):
    system: str  # family/variant
    call: str  # encode or decode
    measurement: Measurement
    peak_memory: int  # bytes


COLUMNS = {
    "system": "",
    "call": "",
    "images_per_second": "Images/s",
    "seconds": "Time, ms",
    "floor": "Floor, ms",
    "ratio": "Time / floor",
    "lowest_ratio": "Lowest",
    "highest_ratio": "Highest",
    "peak_memory": "Peak memory, MiB",
    "flops_per_image": "GFLOP an image",
}

NOTES = (
    "Time: of one call on a batch, median over rounds. Weights are random.",
    "Floor: the same matrix products, attention's too, as plain `torch.mm` and `torch.bmm`, and the same convolutions "
    "as plain `conv2d`, each in its faster layout, timed in turns with the calls; median over rounds. "
    "Time / floor: median, lowest and highest of the rounds' ratios; far apart, they say that the machine was busy.",
    "Peak memory: in a fresh process, all weights of the system included. On a GPU what torch's allocator held at "
    "most; on a CPU by how much the process's peak of resident memory grew from before the model was built.",
)


def frame(rows: list[Row]) -> pd.DataFrame:
    """Return one row a call: seconds, bytes and floating-point operations, unrounded."""
    records = [
        {
            "system": row.system,
            "call": row.call,
            "images_per_second": row.measurement.images / row.measurement.seconds,
            "seconds": row.measurement.seconds,
            "floor": row.measurement.floor,
            "ratio": row.measurement.ratio,
            "lowest_ratio": min(row.measurement.ratios),
            "highest_ratio": max(row.measurement.ratios),
            "peak_memory": row.peak_memory,
            "flops_per_image": row.measurement.flops / row.measurement.images,
        }
        for row in rows
    ]
    return pd.DataFrame.from_records(records, columns=list(COLUMNS))


def markdown(title: str, table: pd.DataFrame, machine: str) -> str:
    cells = [
        [
            row.system,
            row.call,
            f"{row.images_per_second:.2f}",
            f"{1e3 * row.seconds:.1f}",
            f"{1e3 * row.floor:.1f}",
            f"{row.ratio:.2f}",
            f"{row.lowest_ratio:.2f}",
            f"{row.highest_ratio:.2f}",
            f"{row.peak_memory / 2**20:.0f}",
            f"{row.flops_per_image / 1e9:.3g}",
        ]
        for row in table.itertuples()
    ]
    align = ["left", "left", *["right"] * (len(COLUMNS) - 2)]
    text = tabulate(cells, list(COLUMNS.values()), tablefmt="github", colalign=align, disable_numparse=True)
    return "\n".join([f"### {title}", "", text, "", *(f"- {note}" for note in (machine, *NOTES)), ""])


def describe(execution: Execution, device: torch.device, rounds: int) -> str:
    """Return the machine and how it was used, as a note."""
    compiled = "compiled" if execution.compiled else "not compiled"
    used = f"batch {execution.batch}, {execution.precision}, {compiled}, {rounds} rounds"
    return f"{processor(device)}; {used}; torch {torch.__version__}."


def processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu()}, {threads} {'thread' if threads == 1 else 'threads'}"


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found[1] if found else platform.machine()


def content(rows: list[Row], machine: str) -> dict[str, Any]:
    """Return everything measured, with every product of every call, as JSON."""
    return {
        "machine": machine,
        "measurements": [
            {
                "system": row.system,
                "call": row.call,
                "peak_memory": row.peak_memory,
                **{
                    name: getattr(row.measurement, name)
                    for name in ("images", "seconds", "floor", "ratios", "flops")
                },
                "products": [
                    {**_product(product), "count": count, "seconds": seconds}
                    for product, (count, seconds) in row.measurement.products.items()
                ],
            }
            for row in rows
        ],
    }


def _product(product: Product) -> dict[str, Any]:
    values = {**asdict(product), "dtype": str(product.dtype).removeprefix("torch.")}
    return {"kind": type(product).__name__, **values, "flops": product.flops}
