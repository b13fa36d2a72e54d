"""Intervals for one more run, computed from the runs that are kept.

A figure x of a run is looked at on the scale of its metric, y = g(x), where runs spread about evenly:

    share     a share of images or entries       arcsin √x
    count     so many of the scored images       arcsin √(x / images)
    ratio     distances and inception scores     log x
    real      decibels, bits, similarities       x
    exact     what follows from params alone     no spread: another run must have the same value

With n runs, a mean ȳ and a variance s² of n - 1 degrees of freedom, one more run of the same distribution lies within

    ȳ ± t · s̃ · √(1 + 1/n),     t the quantile of Student's distribution with d₀ + n - 1 degrees of freedom

Five runs alone would have four degrees of freedom and intervals as wide as anything. So variances are moderated
(G. Smyth, Linear models and empirical Bayes methods, 2004): those of the same metric over all rows of the study are
taken as draws around a common s₀² that is worth d₀ degrees of freedom, both estimated from them,

    s̃² = (d₀ s₀² + (n - 1) s²) / (d₀ + n - 1)

where rows with like variances get a large d₀, unlike ones a small one; d₀ + n - 1 is at most the degrees of freedom of
all these rows together. And a share of N images is not known better than N draws tell it: s² is at least 1 / 4N on
its scale, which matters where all runs found the same.

The chance that a right run leaves any of the m intervals of a study is `chance`: each is left with probability
1 - (1 - chance)^(1/m), which is exact for independent figures and cautious for others (Šidák).
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

from onetok.metrics.names import Measure

Key = TypeVar("Key", bound=Hashable)
SMALLEST_RATIO = 1e-3  # distances below it are all alike
SMALLEST_SHARE_OF_MEDIAN = 1e-5  # a variance below it tells nothing but that it is small
ROUNDING = 1e-6  # relative: by how much a figure without spread may differ


@dataclass(frozen=True, kw_only=True)
class Runs:
    """A figure in the runs that are kept."""

    measure: Measure
    group: str  # figures whose variances are taken together
    values: tuple[float, ...]
    images: int  # that it was measured on


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a figure of one more run lies, in its own unit."""

    n: int
    mean: float
    deviation: float  # the standard deviation of the n values as they are
    low: float
    high: float
    gate_low: float  # further out than any right run
    gate_high: float

    def holds(self, value: float) -> bool:
        return _within(value, self.low, self.high)

    def is_plausible(self, value: float) -> bool:
        return _within(value, self.gate_low, self.gate_high)


def _within(value: float, low: float, high: float) -> bool:
    slack = ROUNDING * max(abs(low), abs(high))
    return low - slack <= value <= high + slack


def intervals(figures: Mapping[Key, Runs], *, chance: float, gate: float) -> dict[Key, Interval]:
    """Return an interval for every figure of two or more runs; gates are `gate` times as wide."""
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
    """Return the moderated variances of a group, and their degrees of freedom."""
    prior, prior_degrees = estimate_prior(variances, degrees)
    if math.isinf(prior_degrees):
        return np.full_like(variances, prior), np.full_like(degrees, degrees.sum())
    moderated = (prior_degrees * prior + degrees * variances) / (prior_degrees + degrees)
    return moderated, np.minimum(prior_degrees + degrees, degrees.sum())


def estimate_prior(variances: NDArray[np.float64], degrees: NDArray[np.float64]) -> tuple[float, float]:
    """Return s₀² and d₀ of variances, by the moments of their logarithms.

    d₀ is 0 for a single variance, and infinite for variances that differ no more than chance has it.
    """
    if len(variances) < 2 or not variances.any():
        return 0.0, 0.0
    floor = SMALLEST_SHARE_OF_MEDIAN * float(np.median(variances[variances > 0]))
    half = degrees / 2
    logarithms = np.log(np.maximum(variances, floor)) - digamma(half) + np.log(half)
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
    """Return what brings a figure to its scale, and what brings it back, clipped to what the figure can be."""
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
    floor = 1 / (4 * runs.images) if runs.measure.scale in ("share", "count") else 0.0
    return max(variance, floor)


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
    """Return how far apart two values of a figure are on its scale."""
    to_scale, _ = scaled(runs)
    return abs(to_scale(a) - to_scale(b))
