"""Files of reference images: what is kept of them, and the .npz files of the ADM evaluator.

Legend: M images · H,W pixels · F features · S spatial features.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from onetok import durable
from onetok.errors import OnetokError
from onetok.metrics.features import Reference
from onetok.metrics.frechet import GaussianStatistics


def write_reference(path: Path, references: Mapping[str, Reference]) -> None:
    """Write what is kept of reference images by each extractor's role."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for role, reference in references.items():
        tensors |= _gaussian(role, reference.statistics)
        if reference.spatial is not None:
            tensors |= _gaussian(f"{role}.spatial", reference.spatial)
        if reference.manifold is not None:
            tensors[f"{role}.manifold"] = reference.manifold
        if reference.classes is not None:
            tensors[f"{role}.classes"] = reference.classes
    with durable.replacing(path) as temporary:
        save_file(tensors, temporary)


def _gaussian(name: str, statistics: GaussianStatistics) -> dict[str, NDArray[np.generic]]:
    return {f"{name}.mean": statistics.mean, f"{name}.covariance": statistics.covariance}


def read_reference(path: Path) -> dict[str, Reference]:
    """Return what is kept of reference images by each extractor's role."""
    tensors = {name: array.copy() for name, array in load_file(path).items()}  # torch takes what it may write
    roles = sorted({name.split(".")[0] for name in tensors})
    return {
        role: Reference(
            GaussianStatistics(tensors[f"{role}.mean"], tensors[f"{role}.covariance"]),
            GaussianStatistics(tensors[f"{role}.spatial.mean"], tensors[f"{role}.spatial.covariance"])
            if f"{role}.spatial.mean" in tensors
            else None,
            tensors.get(f"{role}.manifold"),
            tensors.get(f"{role}.classes"),
        )
        for role in roles
    }


# ---------------------------------------------------------------------------------------------- ADM


class Published(NamedTuple):
    """What a file of the ADM evaluator holds."""

    pooled: GaussianStatistics | None  # mu (2048,), sigma (2048, 2048)
    spatial: GaussianStatistics | None  # mu_s (2023,), sigma_s (2023, 2023)
    images: int  # M of arr_0 (M, H, W, 3) uint8, 0 where there is none


IMAGES = "arr_0"


def read_published(path: Path) -> Published:
    """Return the statistics of an .npz of the ADM evaluator, and how many images it has.

    Raises OnetokError, one line, for a file that is no such .npz, or that holds neither statistics nor images.
    """
    try:
        with np.load(path) as found:
            pooled = _published(path, found, "mu", "sigma")
            spatial = _published(path, found, "mu_s", "sigma_s")
            names = list(found.files)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise OnetokError(f"{path}: not an .npz of NumPy: {error}") from None
    images = _images_in(path)[0] if IMAGES in names else 0
    if pooled is None and not images:
        raise OnetokError(
            f"{path}: holds {', '.join(names) or 'nothing'}, expected mu and sigma, or images in arr_0"
        )
    return Published(pooled, spatial, images)


def _published(
    path: Path, found: Mapping[str, NDArray[np.generic]], mean: str, covariance: str
) -> GaussianStatistics | None:
    if mean not in found and covariance not in found:
        return None
    if mean not in found or covariance not in found:
        raise OnetokError(f"{path}: holds one of {mean} and {covariance}, expected both")
    statistics = GaussianStatistics(found[mean].astype(np.float64), found[covariance].astype(np.float64))
    width = len(statistics.mean)
    if statistics.mean.shape != (width,) or statistics.covariance.shape != (width, width):
        shapes = f"{statistics.mean.shape} and {statistics.covariance.shape}"
        raise OnetokError(f"{path}: {mean} and {covariance} are {shapes}, expected (F,) and (F, F)")
    return statistics


def _images_in(path: Path) -> tuple[int, ...]:
    """Return the shape of the images of an .npz without reading them."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, kind = read(stream)
    if len(shape) != 4 or shape[3] != 3 or kind != np.uint8 or fortran:
        raise OnetokError(f"{path}: {IMAGES} is {kind} {shape}, expected uint8 (M, H, W, 3)")
    return shape


def published_images(path: Path, batch: int) -> Iterator[Tensor]:
    """Yield the images of an .npz in batches (B, 3, H, W) uint8, one batch in memory at a time."""
    shape = _images_in(path)
    each = int(np.prod(shape[1:]))
    with zipfile.ZipFile(path) as archive, archive.open(f"{IMAGES}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        read(stream)
        for start in range(0, shape[0], batch):
            number = min(batch, shape[0] - start)
            pixels = np.frombuffer(stream.read(number * each), np.uint8).reshape(number, *shape[1:])
            yield torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
