"""Figures: labelled sheets of images, images with captions, and training curves.

Legend: H,W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray

from onetok import durable
from onetok.errors import OnetokError, nearest

# matplotlib's default style, regardless of a matplotlibrc, and the font that comes with it: any other font may be
# missing on another machine, and figures would differ.
LOOK: tuple[str, dict[str, Any]] = ("default", {"font.family": ["DejaVu Sans"]})


@style.context(LOOK)
def stacked_sheets(sheets: Mapping[str, NDArray[np.uint8]], title: str, path: Path) -> None:
    """Draw sheets (H, W, 3) uint8 below each other, each under its label, and write the figure to `path`."""
    inches = 9.0
    heights = [inches * sheet.shape[0] / sheet.shape[1] for sheet in sheets.values()]
    size = (inches, sum(heights) + 0.4 * len(sheets) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(sheets), 1, height_ratios=heights, squeeze=False)
    for axis, (label, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
        axis.imshow(sheet, interpolation="nearest")
        axis.set_title(label, fontsize=9, loc="left")
        axis.axis("off")
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


@style.context(LOOK)
def captioned_images(
    captions: Sequence[str], columns: Mapping[str, NDArray[np.uint8]], title: str, path: Path
) -> None:
    """Draw one row for each caption: its text, then its image in each column, and write the figure to `path`.

    A column holds images (captions, 3, H, W) uint8.
    """
    rows = len(captions)
    figure = Figure(figsize=(3.5 + 1.1 * len(columns), 1.1 * rows + 0.8), layout="constrained")
    widths = [3.2, *(1 for _ in columns)]
    axes = figure.subplots(rows, 1 + len(columns), width_ratios=widths, squeeze=False)
    for axis, caption in zip(axes[:, 0], captions, strict=True):
        # parse_math=False, because dollar signs in a caption are no formula.
        text = textwrap.shorten(caption, width=160, placeholder=" …")
        axis.text(1.0, 0.5, textwrap.fill(text, 42), ha="right", va="center", fontsize=8, parse_math=False)
    for number, (label, images) in enumerate(columns.items(), start=1):
        axes[0, number].set_title(label.replace("/", "\n"), fontsize=8)
        for axis, image in zip(axes[:, number], images, strict=True):
            axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    for axis in axes.flat:
        axis.axis("off")
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


@style.context(LOOK)
def overview(
    sheets: Mapping[str, NDArray[np.uint8]],
    label: str,
    captions: Sequence[str],
    images: NDArray[np.uint8],
    title: str,
    path: Path,
) -> None:
    """Draw sheets (H, W, 3) uint8, each under its label, then images with their captions, and write it to `path`.

    The images (captions, 3, H, W) uint8 stand in one row under `label`, each above its caption.
    """
    inches = 9.0
    heights = [inches * sheet.shape[0] / sheet.shape[1] + 0.3 for sheet in sheets.values()]
    heights.append(inches / len(captions) + 1.0)  # room for three lines of a caption
    figure = Figure(figsize=(inches, sum(heights) + 0.4), layout="constrained")
    *panels, last = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (name, sheet) in zip(panels, sheets.items(), strict=True):
        axis = panel.subplots()
        axis.imshow(sheet, interpolation="nearest")
        axis.axis("off")
        panel.suptitle(name, fontsize=9, x=0.01, ha="left")
    axes = last.subplots(1, len(captions), squeeze=False)[0]
    for axis, caption, image in zip(axes, captions, images, strict=True):
        axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        text = textwrap.fill(textwrap.shorten(caption, width=60, placeholder=" …"), 16)
        axis.set_xlabel(text, fontsize=8, parse_math=False)
        axis.set(xticks=[], yticks=[])
    last.suptitle(label, fontsize=9, x=0.01, ha="left")
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


@style.context(LOOK)
def curves(scalars: Mapping[str, pd.DataFrame], scalar: str, title: str, path: Path) -> None:
    """Plot a scalar of several runs against the step, on a logarithmic axis if all values are positive.

    Raises OnetokError for a run that does not have the scalar.
    """
    for label, frame in scalars.items():
        if scalar not in frame:
            raise OnetokError(f"figure: {label} has no scalar {scalar!r}; {nearest(scalar, frame.columns)}")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for label, frame in scalars.items():
        axis.plot(frame["step"], frame[scalar], label=label)
    if all((frame[scalar] > 0).all() for frame in scalars.values()):
        axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel(scalar)
    axis.set_title(title, fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Without the software's version in the metadata, so that the same figure gives the same bytes.
    with durable.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
