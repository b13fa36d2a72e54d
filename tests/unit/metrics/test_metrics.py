import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from onetok.errors import OnetokError
from onetok.metrics.codebook import codebook_use
from onetok.metrics.features import Features, Part, class_accuracy, measure
from onetok.metrics.frechet import GaussianAccumulator, frechet_distance, gaussian_statistics
from onetok.metrics.inception_score import inception_score, shuffled
from onetok.metrics.pixels import is_blank, psnr, ssim
from onetok.metrics.precision_recall import precision_recall
from onetok.metrics.suites import Splits, generation_suite, reconstruction_suite
from onetok.study import metric_names

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
    assert torch.allclose(ssim(a, a), torch.ones(3, dtype=torch.float64))


def test_an_exact_picture_scores_as_the_nearest_that_eight_bits_can_tell_from_it():
    a = torch.full((2, 3, 32, 32), 128 / 255)
    b = a.clone()
    b[1, 0, 0, 0] = 129 / 255
    exact, nearest = psnr(a, b)
    assert float(exact) == pytest.approx(20 * np.log10(255) + 10 * np.log10(3 * 32 * 32))
    assert float(nearest) == pytest.approx(float(exact), abs=1e-4)


def test_pictures_of_one_colour_are_blank():
    flat = torch.full((1, 3, 32, 32), 40, dtype=torch.uint8)
    faint = flat + torch.randint(0, 3, flat.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    shape, ramp = flat.clone(), flat.clone()
    shape[:, 0, :8, :8] = 200
    ramp[:, 2] = torch.arange(32, dtype=torch.uint8) * 8
    pictures = torch.cat([flat, faint, shape, ramp])
    assert is_blank(pictures, deviation=8.0).tolist() == [True, True, False, False]
    assert is_blank(pictures, deviation=0.0).tolist() == [True, False, False, False]


def test_frechet_distance_of_a_shift_is_its_square():
    features = RNG.standard_normal((200, 5))
    a, b = gaussian_statistics(features), gaussian_statistics(features + 2)
    assert frechet_distance(a, b) == pytest.approx(5 * 4)


def test_degenerate_covariance_is_fine():
    features = RNG.standard_normal((4, 32))  # rank 3 of 32
    assert 0 <= frechet_distance(gaussian_statistics(features), gaussian_statistics(features)) < 1e-5


def test_rounding_never_makes_a_distance_negative():
    for seed in range(20):
        features = np.random.default_rng(seed).standard_normal((20, 200)) * 100
        statistics = gaussian_statistics(features)
        assert frechet_distance(statistics, statistics) >= 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_no_number_is_named(wrong):
    features = RNG.standard_normal((30, 5)).astype(np.float32)
    features[[17, 20], 3] = wrong
    found = rf"value 3 of image 17 is {wrong} \(2 of 30 images have such\), expected finite numbers"
    with pytest.raises(OnetokError, match=f"^Fréchet distance: {found}"):
        gaussian_statistics(features)
    with pytest.raises(OnetokError, match=f"^inception score: {found}"):
        inception_score(features, splits=1)
    whole, part = torch.zeros(30, 5), torch.from_numpy(features)
    for sets, which in (((part, whole), "real"), ((whole, part), "generated")):
        with pytest.raises(OnetokError, match=f"^precision and recall, {which} images: {found}"):
            precision_recall(*sets, neighbours=3)


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


@pytest.mark.parametrize("margin", [50.0, 1e3, 1e30])
def test_the_inception_score_of_sure_logits_is_a_number(margin):
    one = np.zeros((40, 10))
    one[:, 3] = margin
    assert inception_score(one, splits=1).mean == pytest.approx(1)
    assert inception_score(np.eye(10)[np.arange(40) % 10] * margin, splits=1).mean == pytest.approx(10)


def test_images_sorted_by_class_score_as_in_any_order_once_they_are_shuffled():
    labels = np.arange(2000) // 200  # 10 classes
    logits = 8.0 * np.eye(10)[labels] + RNG.standard_normal((2000, 10))
    images = Features(np.zeros((2000, 1), np.float32), logits.astype(np.float32))
    elsewhere = Features(images.features, images.logits[RNG.permutation(2000)])

    def score(images, splits):
        return reconstruction_suite(kept(images), images, None, splits=splits)["inception_score"]

    whole = score(images, Splits(1, None))
    assert score(elsewhere, Splits(1, None)) == pytest.approx(whole)
    for order in (images, elsewhere):
        assert score(order, Splits(10, 0)) == pytest.approx(whole, rel=0.03)
    assert inception_score(logits, splits=10).mean < 0.2 * whole  # what the order of classes would give
    assert np.array_equal(np.sort(shuffled(logits, 0), axis=0), np.sort(logits, axis=0))


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
    reference, counts = kept(features), {"splits": Splits(2, 0), "neighbours": 3}
    assert (
        reconstruction_suite(reference, features, labels, splits=Splits(2, 0)).keys()
        <= metric_names.RECONSTRUCTION.keys()
    )
    found = generation_suite(reference, features, labels, **counts)
    assert found.keys() <= metric_names.GENERATION.keys() and "sfid" not in found
    assert "accuracy" not in generation_suite(reference, features, None, **counts)
    spatial = gaussian_statistics(features.features)
    found = generation_suite(
        reference._replace(spatial=spatial, manifold=None), features._replace(spatial=spatial), None, **counts
    )
    assert found["sfid"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] is None and found["recall"] is None


def kept(images, manifold_images=20):
    """What is kept of images as a reference."""
    parts = [{"encoder": Part(images.features, images.logits, None)}]
    return measure(parts, len(images.features), manifold_images, classes=True)["encoder"]


@pytest.mark.parametrize("step", [1, 7, 40, 97])
def test_a_gaussian_of_parts_is_that_of_the_whole(step, monkeypatch):
    monkeypatch.setattr("onetok.metrics.frechet.BLOCK", 16)
    features = (RNG.standard_normal((97, 5)) + 50).astype(np.float32)
    accumulated = GaussianAccumulator()
    for start in range(0, 97, step):
        accumulated.add(features[start : start + step])
    found = accumulated.statistics()
    exact = features.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(exact.T), rtol=1e-11, atol=1e-13)


def test_a_reference_keeps_what_scores_need_and_nothing_that_grows():
    features = RNG.standard_normal((50, 6)).astype(np.float32)
    logits = RNG.standard_normal((50, 3)).astype(np.float32)
    rows = [slice(start, start + 8) for start in range(0, 50, 8)]
    parts = [{"encoder": Part(features[r], logits[r], features[r, :2])} for r in rows]
    found = measure(parts, 50, 11, classes=True)["encoder"]
    chosen = np.linspace(0, 49, 11).round().astype(int)
    assert np.array_equal(found.manifold, features[chosen])
    assert np.array_equal(found.classes, logits.argmax(axis=1))
    whole = gaussian_statistics(features)
    assert np.array_equal(found.statistics.mean, whole.mean)
    assert np.array_equal(found.statistics.covariance, whole.covariance)
    assert np.array_equal(found.spatial.covariance, gaussian_statistics(features[:, :2]).covariance)
    without = measure(parts, 50, 0, classes=False)["encoder"]
    assert without.manifold is None and without.classes is None
