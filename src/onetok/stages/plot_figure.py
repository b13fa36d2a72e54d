"""Plots a figure: originals with reconstructions, samples by class or by prompt, images with captions, or curves.

Legend: H,W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from onetok.data.images import decode
from onetok.data.shards import Shards
from onetok.errors import OnetokError
from onetok.report.contact_sheet import grid
from onetok.report.plots import captioned_images, curves, overview, stacked_sheets
from onetok.stages.caption_images import read_captions
from onetok.stages.common.runtime import Context, main
from onetok.study.schema.tables import (
    CaptionsFigure,
    OverviewFigure,
    PromptsFigure,
    ReconstructionFigure,
    SamplesFigure,
)


def plot_figure(context: Context) -> None:
    """Write figure.png."""
    entry = context.study.figures[context.job.name]
    path = context.folder / "figure.png"
    if isinstance(entry, ReconstructionFigure):
        folder = Path("results/scores/reconstruction")
        sheets = {name: _picture(folder / name / "reconstructions.png") for name in entry.tokenizers}
        stacked_sheets(sheets, entry.title, path)
    elif isinstance(entry, SamplesFigure):
        stacked_sheets({name: by_class(name, entry.per_class) for name in entry.samples}, entry.title, path)
    elif isinstance(entry, PromptsFigure):
        captions, columns = by_prompt(entry.samples, entry.prompts)
        captioned_images(captions, columns, entry.title, path)
    elif isinstance(entry, OverviewFigure):
        plot_overview(entry, path)
    elif isinstance(entry, CaptionsFigure):
        captions, pixels = by_image(entry, context.job.params["dataset"], context.job.params["split"])
        captioned_images(captions, {entry.captions: pixels}, entry.title, path)
    else:
        runs = {run: pd.read_csv(Path("results") / run / "scalars.csv") for run in entry.runs}
        curves(runs, entry.scalar, entry.title, path)


def _picture(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def by_class(samples: str, per_class: int) -> NDArray[np.uint8]:
    """Return a sheet (H, W, 3) uint8 of samples, one row for each class with its first `per_class` images."""
    shards = Shards(Path("results/samples") / samples / "shards")
    shown = [
        i for label in np.unique(shards.labels) for i in np.flatnonzero(shards.labels == label)[:per_class]
    ]
    pixels = np.stack([_pixels(shards, int(i)) for i in shown])
    return np.asarray(grid(pixels, columns=per_class))


def in_turn(samples: str, images: int) -> NDArray[np.uint8]:
    """Return one row (H, W, 3) uint8 of samples: the first image of each class, then the second of each."""
    shards = Shards(Path("results/samples") / samples / "shards")
    labels = pd.Series(shards.labels)
    shown = np.lexsort((labels, labels.groupby(labels).cumcount()))[:images]
    return np.asarray(grid(np.stack([_pixels(shards, int(i)) for i in shown]), columns=len(shown)))


def plot_overview(entry: OverviewFigure, path: Path) -> None:
    """Write the three panels of a study's overview."""
    scores = Path("results/scores/reconstruction") / entry.reconstructions.tokenizer
    sheets = {
        entry.reconstructions.label: _picture(scores / "reconstructions.png"),
        entry.classes.label: in_turn(entry.classes.samples, entry.classes.images),
    }
    captions, columns = by_prompt([entry.prompts.samples], entry.prompts.images)
    overview(sheets, entry.prompts.label, captions, columns[entry.prompts.samples], entry.title, path)


def by_prompt(samples: Sequence[str], prompts: int) -> tuple[list[str], dict[str, NDArray[np.uint8]]]:
    """Return evenly chosen captions and, for each set of samples, its first image of each, (prompts, 3, H, W) uint8.

    The captions are those of the first set. Raises OnetokError for a set that has no image of a caption.
    """
    sets = {name: Shards(Path("results/samples") / name / "shards") for name in samples}
    # The number of the first image of each caption.
    first_images = {
        name: {shards.caption(i): i for i in reversed(range(len(shards)))} for name, shards in sets.items()
    }
    first = first_images[samples[0]]
    captions = sorted(first, key=first.__getitem__)
    shown = np.linspace(0, len(captions) - 1, min(prompts, len(captions))).round().astype(int)
    captions = [captions[i] for i in shown]
    for name, found in first_images.items():
        missing = [caption for caption in captions if caption not in found]
        if missing:
            text = f"no image for the caption {missing[0]!r}, expected one, as in {samples[0]}"
            raise OnetokError(f"{name}: {text}")
    columns = {
        name: np.stack([_pixels(shards, first_images[name][caption]) for caption in captions])
        for name, shards in sets.items()
    }
    return captions, columns


def by_image(entry: CaptionsFigure, dataset: str, split: str) -> tuple[list[str], NDArray[np.uint8]]:
    """Return generated captions of evenly chosen images, and these images, (images, 3, H, W) uint8."""
    shards = Shards(Path("results/datasets") / dataset / "shards" / split)
    captions = read_captions(shards, Path("results/captions") / entry.captions / "captions.jsonl")
    shown = np.linspace(0, len(shards) - 1, min(entry.images, len(shards))).round().astype(int)
    return [captions[i] for i in shown], np.stack([_pixels(shards, int(i)) for i in shown])


def _pixels(shards: Shards, image: int) -> NDArray[np.uint8]:
    return np.asarray(decode(shards.image(image), shards.describe(image))).transpose(2, 0, 1)  # (3, H, W)


if __name__ == "__main__":
    main("plot_figure", plot_figure)
