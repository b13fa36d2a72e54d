import numpy as np
import pytest

from onetok.metrics.frechet import frechet_distance, gaussian_statistics
from onetok.metrics.inception_score import inception_score
from onetok.metrics.precision_recall import precision_recall
from tests.parity.cases import load_case

CASE = load_case("evaluation")
EXPECTED = CASE.meta["expected"]


def test_frechet_distance():
    real, fake = (gaussian_statistics(CASE.tensors[f"features_{k}"].numpy()) for k in ("real", "fake"))
    assert frechet_distance(real, fake) == pytest.approx(EXPECTED["frechet_inception_distance"], rel=2e-5)
    assert frechet_distance(fake, real) == pytest.approx(EXPECTED["frechet_inception_distance"], rel=2e-5)
    assert abs(frechet_distance(real, real)) < 1e-6


def test_inception_score():
    score = inception_score(CASE.tensors["is_logits"].numpy(), splits=10)
    assert score.mean == pytest.approx(EXPECTED["inception_score_mean"], rel=2e-5)
    assert score.std == pytest.approx(EXPECTED["inception_score_std"], rel=2e-5)
    assert np.isfinite(score.mean)


def test_precision_recall():
    result = precision_recall(CASE.tensors["features_real"], CASE.tensors["features_fake"], neighbours=3)
    assert result.precision == pytest.approx(EXPECTED["precision"], abs=1e-6)
    assert result.recall == pytest.approx(EXPECTED["recall"], abs=1e-6)
