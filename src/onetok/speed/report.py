"""Measurements of speed as JSON, CSV and Markdown, with the machine and the definitions below the table."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from onetok.markup import markdown_table
from onetok.params import Execution, Pair
from onetok.speed.machine import Rates
from onetok.speed.measure import Measurement
from onetok.speed.pairs import PairMeasurement


class Row(NamedTuple):
    system: str  # family/variant
    call: str  # encode or decode; steps and batch of sampling
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

MEMORY = (
    "Peak memory: what torch's allocator held at most in a fresh process, all weights of the system included."
)

NOTES = (
    "Time: of one call on a batch, median over rounds. Weights are random.",
    "Floor: the same matrix products, attention's too, as plain `torch.mm` and `torch.bmm`, and the same convolutions "
    "as plain `conv2d`, each in its faster layout, timed in turns with the calls; median over rounds. "
    "Time / floor: median, lowest and highest of the rounds' ratios; far apart, they say that the machine was busy.",
    MEMORY,
)

SAMPLING_NOTES = (
    "Time: of drawing the tokens of a batch, all steps, median over rounds; decoding is not in it. Weights are random.",
    "Floor: in each step, the weights of all linear layers read once at the rate at which this machine reads a matrix "
    "of 512 MiB, or the step's matrix products, attention's too, at the rate of a large `torch.mm`, whichever takes "
    "longer. Every step of MaskGen-KL's diffusion is a step, which reads the head's weights. Of adaptive norms that "
    "many steps share, RAR's and MaskGen's, and of what is projected of text, the products count and the weights do "
    "not, since they are read once; keys and values kept from earlier steps do not count. Weights that fit into the "
    "cache are read faster than that.",
    "Both rates are measured before and after every call, in the same process and with the same threads. Time / floor: "
    "median, lowest and highest of the rounds' ratios; far apart, they say that the machine was busy.",
    MEMORY,
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


def markdown(title: str, table: pd.DataFrame, notes: Sequence[str]) -> str:
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
    return _markdown(title, cells, COLUMNS, 2, notes)


def _markdown(
    title: str, cells: list[list[str]], columns: dict[str, str], texts: int, notes: Sequence[str]
) -> str:
    """Return a table whose first `texts` columns are words, the others numbers, with notes below it."""
    align = [*["left"] * texts, *["right"] * (len(columns) - texts)]
    return markdown_table(title, list(columns.values()), cells, align, notes)


def describe(execution: Execution, device: torch.device, rounds: int) -> str:
    """Return the machine and how it was used, as a note."""
    compiled = "compiled" if execution.compiled else "not compiled"
    used = f"batch {execution.batch}, {execution.precision}, {compiled}"
    return describe_machine(used, device, rounds)


def describe_sampling(rates: list[Rates], precision: str, device: torch.device, rounds: int) -> str:
    """Return the machine with its rates, and how it was used, as a note."""
    ranges = [
        f"{low:.3g} to {high:.3g} {unit}"
        for low, high, unit in (
            (*_range(one.bandwidth / 1e9 for one in rates), "GB/s read"),
            (*_range(one.flops_per_second / 1e9 for one in rates), "GFLOP/s multiplied"),
        )
    ]
    return describe_machine(f"{', '.join(ranges)}; {precision}", device, rounds)


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return min(found), max(found)


def describe_machine(used: str, device: torch.device, rounds: int) -> str:
    return f"{processor(device)}; {used}, {rounds} rounds; torch {torch.__version__}."


def processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu()}, {threads} {'thread' if threads == 1 else 'threads'}"


def _cpu() -> str:
    found = re.search(
        r"^model name\s*: (.*)$",
        Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"),
        flags=re.MULTILINE,
    )
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
                **row.measurement.details(),
            }
            for row in rows
        ],
    }


# ---------------------------------------------------------------------------------------------- pairs

PAIR_COLUMNS = {
    "pair": "",
    "images_per_second": "Images/s",
    "beside": "DiT, images/s",
    "ratio": "Times faster",
    "lowest_ratio": "Lowest",
    "highest_ratio": "Highest",
    "published": "Published images/s",
    "published_beside": "Published DiT, images/s",
    "published_ratio": "Published times",
}

PAIR_NOTES = (
    "Images/s: tokens drawn and decoded, median over rounds. DiT: guided, both branches in one batch; a step is timed "
    "in each round and multiplied by the number of steps, which all do the same. Not in it: the VAE's decoder and the "
    "sampler's own arithmetic, which would make DiT slower. All weights are random.",
    "Times faster: median, lowest and highest of the rounds' ratios. Published figures are another machine's.",
)


def pairs_frame(rows: list[tuple[Pair, PairMeasurement]]) -> pd.DataFrame:
    """Return one row a pair, unrounded; published figures are empty where there are none."""
    records = [
        {
            "pair": pair.label,
            "images_per_second": one.images_per_second,
            "beside": one.beside,
            "ratio": statistics.median(one.ratios),
            "lowest_ratio": min(one.ratios),
            "highest_ratio": max(one.ratios),
            "published": pair.published.images_per_second if pair.published else None,
            "published_beside": pair.published.beside if pair.published else None,
            "published_ratio": pair.published.ratio if pair.published else None,
        }
        for pair, one in rows
    ]
    return pd.DataFrame.from_records(records, columns=list(PAIR_COLUMNS))


def pairs_markdown(title: str, table: pd.DataFrame, notes: Sequence[str]) -> str:
    cells = [
        ["" if pd.isna(cell) else f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row]
        for row in table.itertuples(index=False)
    ]
    return _markdown(title, cells, PAIR_COLUMNS, 1, notes)


def pairs_content(rows: list[tuple[Pair, PairMeasurement]], machine: str) -> dict[str, Any]:
    measurements = [{"pair": pair.model_dump(mode="json"), **asdict(one)} for pair, one in rows]
    return {"machine": machine, "measurements": measurements}
