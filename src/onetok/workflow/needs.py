"""Prerequisites of a run that are checked before its first job: folders of images, and pinned weights.

This module does not import torch, because every start of Snakemake uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from onetok.study.load import place
from onetok.study.pins import FILE, weights_of
from onetok.study.plan import Artefact
from onetok.study.schema.datasets import Dataset, ImageFolderSource, SplitFolders
from onetok.study.schema.encoders import WeightsFile
from onetok.study.schema.study import Study
from onetok.study.schema.training import Training


def missing_needs(study: Study, artefacts: Iterable[Artefact], directory: Path) -> list[str]:
    """Return one line for each missing folder, file or pin that the jobs of `artefacts` need."""
    lines, unpinned = [], False
    for artefact in artefacts:
        source = "benchmarks" if artefact.kind == "references" else artefact.kind
        entry = getattr(study, source, {}).get(artefact.name)
        if entry is not None:
            found = [*_folders(entry, directory), *_weights(entry, directory)]
            lines += [f"{place(source, artefact.name)}.{text}" for text in found]
            on_hub = [weights for weights in weights_of(entry).values() if weights.hub is not None]
            unpinned |= any(null_pins(weights) is not None for weights in on_hub)
    lines.sort()
    if unpinned:
        lines.append(f"`onetok pin --all --write` looks up every null pin and writes it to {FILE}")
    return lines


def float16_on_cpu(study: Study, artefacts: Iterable[Artefact]) -> str | None:
    """Return an error line if some of `artefacts` are trained in float16, which a CPU cannot; None otherwise."""
    found = sorted(f"{a.kind} {a.name}" for a in artefacts if _precision(study, a) == "float16")
    if not found:
        return None
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"profile: config.device: found cpu, but {', '.join(found[:3])}{more} are trained in float16 (precision)"


def _folders(entry: BaseModel, directory: Path) -> Iterator[str]:
    """Yield a line for the first missing folder of images of a dataset, if any."""
    if not (isinstance(entry, Dataset) and isinstance(entry.source, ImageFolderSource)):
        return
    root = directory / entry.source.path
    folders = [(root, "source.path")]
    if isinstance(entry.split, SplitFolders):
        folders += [(root / entry.split.train, "split.train"), (root / entry.split.val, "split.val")]
    for folder, key in folders:
        if not folder.is_dir():
            yield f"{key}: {folder}: no such folder; put the images there, or a link to where they are"
            return


def _weights(entry: BaseModel, directory: Path) -> Iterator[str]:
    """Yield a line for each file of weights of an entry that is not pinned or missing."""
    for field, weights in weights_of(entry).items():
        path = directory / weights.file
        if (text := null_pins(weights)) is not None:
            yield f"{field}: {weights.file}: {text}"
        elif weights.hub is None and weights.url is None and not path.is_file():
            yield f"{field}.file: {path}: no such file"


def _precision(study: Study, artefact: Artefact) -> str | None:
    training = getattr(getattr(study, artefact.kind, {}).get(artefact.name), "training", None)
    return training.precision if isinstance(training, Training) else None


def null_pins(weights: WeightsFile) -> str | None:
    """Return a line on the pins that are null in params, with the command that prints them; None if all are set."""
    pins = ("revision", "sha256") if weights.hub is not None else ("sha256",)
    missing = [f"weights.{pin}" for pin in pins if getattr(weights, pin) is None]
    if not missing:
        return None
    printer = f"sha256sum {weights.file}"
    if weights.hub is not None:
        printer = f"onetok pin {weights.hub} {weights.file}"
    elif weights.url is not None:
        printer = f"curl -L {weights.url} | sha256sum"
    verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
    return f"not pinned: {' and '.join(missing)} {verb} null in params; `{printer}` prints {them}"
