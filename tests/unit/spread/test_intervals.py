"""Intervals of one more run: known values, what they do at the edges, and how often a right run leaves them."""

import math

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import t as student

from onetok.spread.intervals import Runs, distance, estimate_prior, intervals, inverse_trigamma, moderate
from onetok.study import metric_names


def runs(metric, *values, images=100, group=None):
    measure = metric_names.measure(metric)
    return Runs(measure=measure, group=group or metric, values=values, images=images)


def test_every_metric_has_a_measure():
    for metric in metric_names.ALL:  # a KeyError names one that onetok.study.metric_names says nothing of
        assert metric_names.measure(metric).lowest < metric_names.measure(metric).highest


def test_two_runs_of_one_figure_give_the_interval_of_the_textbook():
    """Mean ± t · s · √(1 + 1/n), one figure, so that nothing is moderated."""
    found = intervals({"a": runs("psnr", 20.0, 21.0)}, chance=0.05, gate=2.0)["a"]
    half = student.ppf(0.975, 1) * math.sqrt(0.5) * math.sqrt(1.5)
    assert (found.n, found.mean, found.deviation) == (2, 20.5, pytest.approx(math.sqrt(0.5)))
    assert (found.low, found.high) == (pytest.approx(20.5 - half), pytest.approx(20.5 + half))
    assert found.gate_high == pytest.approx(20.5 + 2 * half)


def test_what_follows_from_params_alone_must_be_equal():
    found = intervals({"a": runs("parameters", 830080, 830080)}, chance=0.001, gate=3.0)["a"]
    assert found.holds(830080) and not found.holds(830082) and not found.is_plausible(830082)


def test_a_figure_that_never_moved_must_be_equal_up_to_rounding_but_a_share_is_known_as_well_as_its_images():
    found = intervals({"a": runs("psnr", 20.0, 20.0, 20.0)}, chance=0.001, gate=3.0)["a"]
    assert found.holds(20.0 * (1 + 1e-9)) and not found.holds(20.01)
    same = intervals({"a": runs("accuracy", *[1.0] * 6, images=360)}, chance=0.001, gate=3.0)["a"]
    assert same.high == 1.0 and 0.85 < same.low < 0.99
    more = intervals({"a": runs("accuracy", *[1.0] * 6, images=36000)}, chance=0.001, gate=3.0)["a"]
    assert more.low > 0.998


@pytest.mark.parametrize(
    ("metric", "values", "least", "most"),
    [
        ("accuracy", (0.99, 1.0, 0.985), 0.0, 1.0),
        ("geneval_held_out", (0.0, 0.01, 0.0), 0.0, 1.0),
        ("distinct", (98, 100, 99), 0.0, 100.0),
        ("fid", (0.02, 0.05, 0.01), 0.0, math.inf),
        ("psnr", (1.0, 9.0, 2.0), 0.0, math.inf),
        ("ssim", (0.9, 0.99, 0.8), -1.0, 1.0),
    ],
)
def test_an_interval_stays_within_what_the_figure_can_be(metric, values, least, most):
    found = intervals({"a": runs(metric, *values)}, chance=0.001, gate=5.0)["a"]
    assert least <= found.gate_low <= found.low <= min(values)
    assert max(values) <= found.high <= found.gate_high <= most


def test_distances_are_compared_by_their_ratio_and_shares_more_strictly_near_0_and_1():
    fid, share = runs("fid", 1, 2), runs("accuracy", 0.5, 0.6)
    assert distance(fid, 1, 2) == pytest.approx(distance(fid, 10, 20))
    assert distance(share, 0.5, 0.51) < distance(share, 0.98, 0.99) / 2


def test_figures_of_a_single_run_have_no_interval():
    assert intervals({"a": runs("psnr", 20.0), "b": runs("psnr")}, chance=0.001, gate=3.0) == {}


def test_trigamma_is_inverted():
    for x in (0.1, 1.0, 7.5, 300.0):
        assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


def test_the_prior_of_variances_is_found_again():
    """Variances drawn around s₀² = 2 with d₀ = 8, each measured with 4 degrees of freedom."""
    rng = np.random.default_rng(0)
    true = 2 * 8 / rng.chisquare(8, 20_000)
    measured = true * rng.chisquare(4, 20_000) / 4
    prior, degrees = estimate_prior(measured, np.full(20_000, 4.0))
    assert prior == pytest.approx(2, rel=0.05) and degrees == pytest.approx(8, rel=0.1)


def test_alike_variances_are_pooled_and_unlike_ones_stay_apart():
    degrees = np.full(4, 5.0)
    alike, total = moderate(np.array([1.0, 1.1, 0.9, 1.0]), degrees)
    assert alike == pytest.approx([1.0] * 4) and (total == 20).all()
    apart, total = moderate(np.array([1e-2, 1.0, 1e2, 1e4]), degrees)
    assert apart[3] / apart[0] > 1e5 and (total < 6).all()


@pytest.mark.parametrize("spread_of_variances", [0.0, 0.5])
def test_a_right_run_leaves_any_interval_as_seldom_as_asked_for(spread_of_variances):
    """400 studies of 30 figures in 6 runs, and one more run of each: some figure is outside in about 5 of 100."""
    rng = np.random.default_rng(1)
    left = 0
    for _ in range(400):
        deviations = 0.1 * np.exp(spread_of_variances * rng.standard_normal(30))
        values = np.exp(1 + deviations[:, None] * rng.standard_normal((30, 7)))
        kept = {i: runs("fid", *row[:6]) for i, row in enumerate(values)}
        found = intervals(kept, chance=0.05, gate=3.0)
        left += any(not found[i].holds(row[6]) for i, row in enumerate(values))
    assert 0.01 < left / 400 < 0.09


def test_moderated_intervals_are_narrow_enough_to_see_a_broken_row():
    """Forty FIDs that spread by a tenth in six runs: half as much again may be luck, four times as much may not."""
    rng = np.random.default_rng(2)
    values = np.exp(1 + 0.1 * rng.standard_normal((40, 6)))
    found = intervals({i: runs("fid", *row) for i, row in enumerate(values)}, chance=0.001, gate=3.0)
    assert all(found[i].holds(1.5 * row.mean()) for i, row in enumerate(values))
    assert not any(found[i].holds(4 * row.mean()) for i, row in enumerate(values))
