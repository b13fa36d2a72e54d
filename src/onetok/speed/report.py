"""Speed measurements as JSON, CSV and Markdown, with the machine and the definitions below the Markdown table."""

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

from onetok.report.markup import markdown_table
from onetok.speed.comparisons import ComparisonMeasurement
from onetok.speed.machine import Rates
from onetok.speed.measure import Measurement
from onetok.study.schema.speeds import DiffusionComparison, Execution


class Row(NamedTuple):
    """One measured call."""

    system: str  # family/variant
    call: str  # encode or decode; of sampling, steps and batch
    measurement: Measurement
    peak_memory: int  # bytes


COLUMNS = {
    "system": "",
    "call": "",
    "images_per_second": "Images/s",
    "seconds": "Time, ms",
    "lower_bound": "Lower bound, ms",
    "ratio": "Time / lower bound",
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
    "Lower bound: the same matrix products, attention's too, as plain `torch.mm` and `torch.bmm`, and the same "
    "convolutions as plain `conv2d`, each in its faster layout, timed in turns with the calls; median over rounds. "
    "Time / lower bound: median, lowest and highest of the rounds' ratios; if they differ much, the machine was busy.",
    MEMORY,
)

SAMPLING_NOTES = (
    "Time: of sampling the tokens of a batch, all steps, median over rounds, without decoding. Weights are random.",
    "Lower bound: in each step, the time to read the weights of all linear layers once, at the rate at which this "
    "machine reads a matrix of 512 MiB, or the time of the step's matrix products, attention's too, at the rate of a "
    "large `torch.mm`, whichever is longer. For MaskGen-KL each step of the diffusion counts as a step, which reads "
    "the head's weights. What many steps share (adaptive norms of RAR and MaskGen, projected text) counts with "
    "its products and not with its weights, which are read once; reading the KV cache does not count. Weights that "
    "fit into the processor's cache are read faster than that.",
    "Both rates are measured before and after every call, in the same process and with the same threads. "
    "Time / lower bound: median, lowest and highest of the rounds' ratios; if they differ much, the machine was busy.",
    MEMORY,
)


def frame(rows: list[Row]) -> pd.DataFrame:
    """Return one row for each call, in seconds, bytes and floating-point operations, not rounded."""
    records = [
        {
            "system": row.system,
            "call": row.call,
            "images_per_second": row.measurement.images / row.measurement.seconds,
            "seconds": row.measurement.seconds,
            "lower_bound": row.measurement.lower_bound,
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
    """Return the table of `frame` as Markdown, in ms, MiB and GFLOP, with notes below it."""
    cells = [
        [
            row.system,
            row.call,
            f"{row.images_per_second:.2f}",
            f"{1e3 * row.seconds:.1f}",
            f"{1e3 * row.lower_bound:.1f}",
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
    """Return a table whose first `texts` columns hold text and the others numbers, with notes below it."""
    align = [*["left"] * texts, *["right"] * (len(columns) - texts)]
    return markdown_table(title, list(columns.values()), cells, align, notes)


def describe(execution: Execution, device: torch.device, rounds: int) -> str:
    """Return a note on the machine and the settings of a measurement."""
    compiled = "compiled" if execution.compiled else "not compiled"
    used = f"batch {execution.batch}, {execution.precision}, {compiled}"
    return describe_machine(used, device, rounds)


def describe_sampling(rates: list[Rates], precision: str, device: torch.device, rounds: int) -> str:
    """Return a note on the machine, the ranges of its rates, and the settings of a measurement of sampling."""
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
    """Return a note on the machine, its settings (`used`), the number of rounds and PyTorch's version."""
    return f"{processor(device)}; {used}, {rounds} rounds; torch {torch.__version__}."


def processor(device: torch.device) -> str:
    """Return the GPU's name, or the CPU's name and the number of threads."""
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
    """Return all measurements with the parts of their lower bounds, as JSON."""
    return {
        "machine": machine,
        "measurements": [
            {
                "system": row.system,
                "call": row.call,
                "peak_memory": row.peak_memory,
                **{
                    name: getattr(row.measurement, name)
                    for name in ("images", "seconds", "lower_bound", "ratios", "flops")
                },
                **row.measurement.details(),
            }
            for row in rows
        ],
    }


# ---------------------------------------------------------------------------------------------- comparisons

COMPARISON_COLUMNS = {
    "comparison": "",
    "images_per_second": "Images/s",
    "diffusion_images_per_second": "DiT, images/s",
    "ratio": "Times faster",
    "lowest_ratio": "Lowest",
    "highest_ratio": "Highest",
    "published": "Published images/s",
    "published_diffusion": "Published DiT, images/s",
    "published_ratio": "Published times",
}

COMPARISON_NOTES = (
    "Images/s: tokens sampled and decoded, median over rounds. DiT: guided, both branches in one batch; a step is "
    "timed in each round and multiplied by the number of steps, which all do the same. The VAE's decoder and the "
    "sampler's own arithmetic, which would make DiT slower, are left out. All weights are random.",
    "Times faster: median, lowest and highest of the rounds' ratios. Published figures are another machine's.",
)


def comparisons_frame(rows: list[tuple[DiffusionComparison, ComparisonMeasurement]]) -> pd.DataFrame:
    """Return one row for each comparison, not rounded; published figures are empty where there are none."""
    records = [
        {
            "comparison": comparison.label,
            "images_per_second": one.images_per_second,
            "diffusion_images_per_second": one.diffusion_images_per_second,
            "ratio": statistics.median(one.ratios),
            "lowest_ratio": min(one.ratios),
            "highest_ratio": max(one.ratios),
            "published": published.images_per_second if published else None,
            "published_diffusion": published.diffusion_images_per_second if published else None,
            "published_ratio": published.ratio if published else None,
        }
        for comparison, one in rows
        for published in [comparison.published]
    ]
    return pd.DataFrame.from_records(records, columns=list(COMPARISON_COLUMNS))


def comparisons_markdown(title: str, table: pd.DataFrame, notes: Sequence[str]) -> str:
    """Return the table of `comparisons_frame` as Markdown, with notes below it."""
    cells = [
        ["" if pd.isna(cell) else f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row]
        for row in table.itertuples(index=False)
    ]
    return _markdown(title, cells, COMPARISON_COLUMNS, 1, notes)


def comparisons_content(
    rows: list[tuple[DiffusionComparison, ComparisonMeasurement]], machine: str
) -> dict[str, Any]:
    """Return all measurements of comparisons, as JSON."""
    measurements = [
        {"comparison": comparison.model_dump(mode="json"), **asdict(one)} for comparison, one in rows
    ]
    return {"machine": machine, "measurements": measurements}
