"""Prediction intervals for the figures of one more run, computed from the recorded runs.

A figure x of a run is transformed to a scale y = g(x) by its kind of metric, so that its variance over runs depends
little on its value:

    share     a share of images or entries         arcsin √x
    count     a number of the scored images        arcsin √(x / images)
    ratio     distances and inception scores       log x
    real      decibels, bits, similarities         x
    exact     figures that follow from params      no spread: another run must have the same value

With n runs, their mean ȳ and their variance s² with n - 1 degrees of freedom, the prediction interval is

    ȳ ± t · s̃ · √(1 + 1/n),     t the quantile of Student's distribution with d₀ + n - 1 degrees of freedom

Five runs have only four degrees of freedom, and their intervals would be very wide. Therefore variances are moderated
by empirical Bayes (G. Smyth, Linear models and empirical Bayes methods, 2004): the variances of the same metric over
all rows of the study are regarded as samples around a common s₀² with d₀ degrees of freedom, both estimated from them,

    s̃² = (d₀ s₀² + (n - 1) s²) / (d₀ + n - 1)

where d₀ is large if the variances of the rows are similar and small if they are not; d₀ + n - 1 is at most the degrees
of freedom of all these rows together. A share of N images also has the sampling error of N trials: s² is at least
1 / 4N on its scale, which matters where all runs have the same share.

The probability that a correct run leaves at least one of the m intervals of a study is `chance`: each is left with
probability 1 - (1 - chance)^(1/m), which is exact for independent figures and conservative for others (Šidák).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma
from scipy.stats import t as student

from onetok.study.metric_names import Measure

Key = TypeVar("Key", bound=Hashable)
SMALLEST_RATIO = 1e-3  # smaller distances count as this one, since log x has no lower bound
SMALLEST_SHARE_OF_MEDIAN = 1e-5  # smaller variances, relative to the median, count as this one
ROUNDING = 1e-6  # relative tolerance for figures without spread


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The values of a figure in the recorded runs."""

    measure: Measure
    group: str  # figures of the same group have their variances moderated together
    values: tuple[float, ...]
    images: int  # number of images that the figure is measured on


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The prediction interval of a figure of one more run, in the figure's own unit."""

    n: int  # number of runs
    mean: float
    deviation: float  # standard deviation of the n values, neither transformed nor moderated
    low: float
    high: float
    gate_low: float  # ends of the wider interval beyond which a figure is regarded as an error
    gate_high: float

    def holds(self, value: float) -> bool:
        """Return whether the interval contains a value, up to rounding."""
        return _within(value, self.low, self.high)

    def is_plausible(self, value: float) -> bool:
        """Return whether a value is inside the gate, up to rounding."""
        return _within(value, self.gate_low, self.gate_high)


def _within(value: float, low: float, high: float) -> bool:
    slack = ROUNDING * max(abs(low), abs(high))
    return low - slack <= value <= high + slack


def intervals(figures: Mapping[Key, Runs], *, chance: float, gate: float) -> dict[Key, Interval]:
    """Return the prediction interval of every figure with two or more runs; the gate is `gate` times as wide.

    `chance` is the probability that a correct run leaves any of them.
    """
    figures = {key: runs for key, runs in figures.items() if len(runs.values) > 1}
    moving = {key: runs for key, runs in figures.items() if runs.measure.scale != "exact"}
    exact = {
        key: _interval(runs, 0.0, gate) for key, runs in figures.items() if runs.measure.scale == "exact"
    }
    groups: dict[str, dict[Key, Runs]] = defaultdict(dict)
    for key, runs in moving.items():
        groups[runs.group][key] = runs
    missed = -math.expm1(math.log1p(-chance) / len(moving)) if moving else 0.0
    found = {}
    for members in groups.values():
        degrees = np.array([len(runs.values) - 1 for runs in members.values()], dtype=float)
        variances = np.array([_variance(runs) for runs in members.values()])
        moderated, total = moderate(variances, degrees)
        widths = student.isf(missed / 2, total) * np.sqrt(moderated)
        for (key, runs), width in zip(members.items(), widths, strict=True):
            found[key] = _interval(runs, float(width) * math.sqrt(1 + 1 / len(runs.values)), gate)
    return {**exact, **found}


def moderate(
    variances: NDArray[np.float64], degrees: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the moderated variances s̃² of a group and their degrees of freedom, of variances with n - 1 degrees."""
    prior, prior_degrees = estimate_prior(variances, degrees)
    if math.isinf(prior_degrees):
        return np.full_like(variances, prior), np.full_like(degrees, degrees.sum())
    moderated = (prior_degrees * prior + degrees * variances) / (prior_degrees + degrees)
    return moderated, np.minimum(prior_degrees + degrees, degrees.sum())


def estimate_prior(variances: NDArray[np.float64], degrees: NDArray[np.float64]) -> tuple[float, float]:
    """Return s₀² and d₀ of variances, by the method of moments on their logarithms (Smyth 2004).

    d₀ is 0 for a single variance, and infinite if the variances differ no more than sampling explains.
    """
    if len(variances) < 2 or not variances.any():
        return 0.0, 0.0
    smallest = SMALLEST_SHARE_OF_MEDIAN * float(np.median(variances[variances > 0]))
    half = degrees / 2
    logarithms = np.log(np.maximum(variances, smallest)) - digamma(half) + np.log(half)
    excess = float(logarithms.var(ddof=1) - polygamma(1, half).mean())
    if excess <= 0:
        return float((degrees * variances).sum() / degrees.sum()), math.inf
    prior_degrees = 2 * inverse_trigamma(excess)
    location = float(logarithms.mean())
    return math.exp(location + float(digamma(prior_degrees / 2)) - math.log(prior_degrees / 2)), prior_degrees


def inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method, which converges from below (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        found = float(polygamma(1, x))
        step = found * (1 - found / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x


# ---------------------------------------------------------------------------------------------- scales

Transform = Callable[[float], float]


def scaled(runs: Runs) -> tuple[Transform, Transform]:
    """Return the transform of a figure to its scale, and the inverse, clipped to the range of the figure."""
    if runs.measure.scale == "ratio":
        return lambda x: math.log(max(x, SMALLEST_RATIO)), math.exp
    if runs.measure.scale in ("share", "count"):
        whole = runs.images if runs.measure.scale == "count" else 1
        return (
            lambda x: math.asin(math.sqrt(min(max(x / whole, 0.0), 1.0))),
            lambda y: whole * math.sin(min(max(y, 0.0), math.pi / 2)) ** 2,
        )
    return (lambda x: x), (lambda y: y)


def _variance(runs: Runs) -> float:
    to_scale, _ = scaled(runs)
    variance = float(np.var([to_scale(value) for value in runs.values], ddof=1))
    sampling_error = 1 / (4 * runs.images) if runs.measure.scale in ("share", "count") else 0.0
    return max(variance, sampling_error)


def _interval(runs: Runs, width: float, gate: float) -> Interval:
    to_scale, back = scaled(runs)
    middle = float(np.mean([to_scale(value) for value in runs.values]))
    ends = (back(middle + sign * width) for sign in (-1, 1, -gate, gate))
    lowest, highest = runs.measure.lowest, runs.measure.highest
    low, high, gate_low, gate_high = (min(max(end, lowest), highest) for end in ends)
    return Interval(
        n=len(runs.values),
        mean=float(np.mean(runs.values)),
        deviation=float(np.std(runs.values, ddof=1)),
        low=low,
        high=high,
        gate_low=gate_low,
        gate_high=gate_high,
    )


def distance(runs: Runs, a: float, b: float) -> float:
    """Return the absolute difference of two values of a figure on its scale."""
    to_scale, _ = scaled(runs)
    return abs(to_scale(a) - to_scale(b))
