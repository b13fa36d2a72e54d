import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from onetok.errors import OnetokError
from onetok.metrics import names
from onetok.metrics.codebook import codebook_use
from onetok.metrics.features import Features, class_accuracy
from onetok.metrics.frechet import frechet_distance, gaussian_statistics
from onetok.metrics.inception_score import inception_score
from onetok.metrics.pixels import psnr, ssim
from onetok.metrics.precision_recall import precision_recall
from onetok.metrics.suites import generation_suite, reconstruction_suite

RNG = np.random.default_rng(0)


def test_pixel_metrics_agree_with_scikit_image():
    a = torch.from_numpy(RNG.random((3, 3, 40, 32), dtype=np.float32))
    b = (a + 0.1 * torch.from_numpy(RNG.standard_normal(a.shape, dtype=np.float32))).clamp(0, 1)
    for i, (x, y) in enumerate(zip(a.double().numpy(), b.double().numpy(), strict=True)):
        assert float(psnr(a, b)[i]) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1))
        reference = structural_similarity(
            x, y, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(ssim(a, b)[i]) == pytest.approx(reference, abs=1e-6)
    assert torch.isinf(psnr(a, a)).all() and torch.allclose(ssim(a, a), torch.ones(3, dtype=torch.float64))


def test_frechet_distance_of_a_shift_is_its_square():
    features = RNG.standard_normal((200, 5))
    a, b = gaussian_statistics(features), gaussian_statistics(features + 2)
    assert frechet_distance(a, b) == pytest.approx(5 * 4)


def test_degenerate_covariance_is_fine():
    features = RNG.standard_normal((4, 32))  # rank 3 of 32
    assert abs(frechet_distance(gaussian_statistics(features), gaussian_statistics(features))) < 1e-5


def test_too_few_images_are_refused():
    with pytest.raises(OnetokError, match="found 1 images"):
        gaussian_statistics(np.zeros((1, 3)))
    with pytest.raises(OnetokError, match="found 3 real images"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2), neighbours=3)
    with pytest.raises(OnetokError, match="found 2 images"):
        inception_score(np.zeros((2, 3)), splits=10)


def test_inception_score_bounds():
    sure = np.eye(10)[np.arange(1000) % 10] * 50.0
    assert inception_score(sure, splits=10).mean == pytest.approx(10)
    assert inception_score(np.zeros((100, 10)), splits=10).mean == pytest.approx(1)


def test_codebook_use():
    use = codebook_use(np.array([[0, 1], [2, 3]]), 8)
    assert use == (0.5, 2.0)


def test_accuracy():
    assert class_accuracy(np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([1, 1])) == 0.5


def test_every_number_of_a_suite_has_a_name():
    features = Features(
        RNG.standard_normal((40, 6)).astype(np.float32), RNG.standard_normal((40, 3)).astype(np.float32)
    )
    labels = np.zeros(40, dtype=np.int64)
    counts = {"splits": 2, "manifold_images": 20, "neighbours": 3}
    assert reconstruction_suite(features, features, labels, splits=2).keys() <= names.RECONSTRUCTION.keys()
    assert generation_suite(features, features, labels, **counts).keys() <= names.GENERATION.keys()
    assert "accuracy" not in generation_suite(features, features, None, **counts)
