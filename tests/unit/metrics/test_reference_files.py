"""References: what a file of the ADM evaluator gives, and what is written for the score jobs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onetok.errors import OnetokError
from onetok.metrics.features import FeatureExtractor, Reference, SpatialExtractor
from onetok.metrics.frechet import GaussianStatistics, gaussian_statistics
from onetok.metrics.reference_files import (
    published_images,
    read_published,
    read_reference,
    write_reference,
)
from onetok.networks.inception import Inception, InceptionConfig

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)


def gaussian(width):
    return gaussian_statistics(RNG.standard_normal((2 * width, width)))


def test_a_reference_is_read_as_it_was_written(tmp_path):
    full = Reference(
        gaussian(4), gaussian(3), RNG.standard_normal((2, 4)).astype(np.float32), np.array([1, 2])
    )
    least = Reference(gaussian(5), None, None, None)
    write_reference(tmp_path / "reference.safetensors", {"encoder": full, "second_encoder": least})
    found = read_reference(tmp_path / "reference.safetensors")
    assert found.keys() == {"encoder", "second_encoder"}
    assert found["second_encoder"][1:] == (None, None, None)
    for ours, theirs in zip(full, found["encoder"], strict=True):
        pairs = zip(ours, theirs, strict=True) if isinstance(ours, GaussianStatistics) else [(ours, theirs)]
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_a_file_of_the_adm_evaluator_is_read_by_its_keys(tmp_path):
    path = tmp_path / "VIRTUAL.npz"
    pooled, spatial = gaussian(4), gaussian(3)
    named = {
        "mu": pooled.mean,
        "sigma": pooled.covariance,
        "mu_s": spatial.mean,
        "sigma_s": spatial.covariance,
    }
    np.savez(
        path,
        arr_0=IMAGES,
        arr_1=np.zeros(5),
        **{key: value.astype(np.float32) for key, value in named.items()},
    )
    found = read_published(path)
    assert found.images == 5 and found.pooled.mean.dtype == np.float64
    np.testing.assert_allclose(found.pooled.covariance, pooled.covariance, rtol=1e-6)
    np.testing.assert_allclose(found.spatial.mean, spatial.mean, rtol=1e-6)
    batches = list(published_images(path, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()))
    np.savez_compressed(path, arr_0=IMAGES)
    assert read_published(path) == (None, None, 5)
    assert torch.equal(torch.cat(list(published_images(path, 3))), torch.cat(batches))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": np.zeros((2, 3))}, "holds features, expected mu and sigma, or images in arr_0"),
        ({"mu": np.zeros(3)}, "holds one of mu and sigma, expected both"),
        (
            {"mu": np.zeros(3), "sigma": np.zeros((2, 2))},
            r"mu and sigma are \(3,\) and \(2, 2\), expected \(F,\) and \(F, F\)",
        ),
        (
            {"arr_0": np.zeros((2, 8, 8, 3))},
            r"arr_0 is float64 \(2, 8, 8, 3\), expected uint8 \(M, H, W, 3\)",
        ),
    ],
)
def test_a_file_without_what_is_needed_is_one_line(tmp_path, content, message):
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(OnetokError, match=f"^{tmp_path}/x.npz: {message}$"):
        read_published(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_text("<html>")
    with pytest.raises(OnetokError, match=r"y\.npz: not an \.npz of NumPy"):
        read_published(tmp_path / "y.npz")


def test_spatial_features_are_those_of_the_adm_evaluator():
    """The first 7 channels of the first branch of mixed_6 (Mixed_6d here), place by place, after its rectifier."""
    torch.manual_seed(0)
    network = Inception(InceptionConfig())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        features, spatial = network.features_and_spatial(images)
        assert torch.equal(features, network.features(images))
    assert features.shape == (2, 2048) and spatial.shape == (2, 17 * 17 * 7)
    assert (spatial >= 0).all() and (spatial > 0).any()
    seen = []
    network.network.Mixed_6d.branch1x1.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.inference_mode():
        network.features(images)
    assert torch.equal(spatial.reshape(2, 17, 17, 7)[1, 3, 5], seen[0][1, :7, 3, 5])
    extractor: FeatureExtractor = network
    assert isinstance(extractor, SpatialExtractor)
