"""Statistics of many runs: means with intervals, aggregates over environments, comparisons (Agarwal et al. 2021).

Scores of a method are one array [runs] per environment. Intervals are 95 % intervals. Bootstraps are stratified: they
resample the runs of each environment by themselves, with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asyncrl.common.statistics import iqm, student_quantile

__all__ = [
    "Estimate",
    "aggregate",
    "difference",
    "iqm_over",
    "mean_over",
    "mean_with_interval",
    "normalized",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "seeds_to_separate",
    "separated",
    "student_quantile",
]

RESAMPLES = 5_000
MAX_SEEDS = 1_000
"""Seeds beyond which a difference counts as none."""
_TAIL = 0.975

Scores = Sequence[np.ndarray]
"""[runs] scores of each environment."""


class Estimate(NamedTuple):
    """A value and its 95 % interval, whose ends are NaN if there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)


def mean_with_interval(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean with Student's t interval; no interval for a single value."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Estimate(float(array.mean()))
    half = student_quantile(_TAIL, len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return Estimate(float(array.mean()), float(array.mean()) - half, float(array.mean()) + half)


def difference(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Estimate:
    """mean(x) − mean(y) with Welch's interval; no interval unless both have two values or more."""
    one, two = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    value = float(one.mean() - two.mean())
    if min(len(one), len(two)) < 2:
        return Estimate(value)
    a, b = one.var(ddof=1) / len(one), two.var(ddof=1) / len(two)
    if a + b == 0:
        return Estimate(value, value, value)
    degrees = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(two) - 1))
    half = student_quantile(_TAIL, float(degrees)) * math.sqrt(a + b)
    return Estimate(value, value - half, value + half)


def separated(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals do not overlap; False if one of them is missing."""
    return one.low > other.high or other.low > one.high


def seeds_to_separate(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> int | None:
    """Runs of each that make the t intervals of the means not overlap, if means and standard deviations stay as they are.

    None if the means are equal, if there are fewer than two runs of each, or if more than `MAX_SEEDS` are needed.
    """
    one, two = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    gap = abs(float(one.mean() - two.mean()))
    if min(len(one), len(two)) < 2 or gap == 0:
        return None
    spread = float(one.std(ddof=1) + two.std(ddof=1))

    def overlap(runs: int) -> bool:
        return student_quantile(_TAIL, runs - 1) * spread / math.sqrt(runs) >= gap

    low, high = 2, MAX_SEEDS
    if overlap(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if overlap(middle) else (low, middle)
    return low


def normalized(scores: np.ndarray, zero: float, one: float) -> np.ndarray:
    """Scores on the scale on which `zero` is 0 and `one` is 1."""
    return (np.asarray(scores, dtype=np.float64) - zero) / (one - zero)


def iqm_over(scores: Scores) -> np.ndarray:
    """The interquartile mean of all runs of all environments [..., runs]; leading dimensions are kept."""
    return iqm(np.concatenate(list(scores), axis=-1))


def mean_over(scores: Scores) -> np.ndarray:
    """The mean over environments of the mean over runs."""
    return np.asarray(np.mean([array.mean(-1) for array in scores], axis=0))


def optimality_gap(scores: Scores) -> np.ndarray:
    """How far runs are from a normalized score of 1 on average; runs above it count as 1."""
    return 1 - mean_over([np.minimum(array, 1.0) for array in scores])


def aggregate(scores: Scores, statistic: Callable[[Scores], np.ndarray]) -> Estimate:
    """A statistic of normalized scores with its bootstrap interval; no interval if no environment has two runs."""
    value = float(statistic(scores))
    if max(map(len, scores)) < 2:
        return Estimate(value)
    low, high = np.percentile(statistic(_resampled(scores)), [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def performance_profile(scores: Scores, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of runs above each threshold, averaged over environments, and its interval's ends; each [thresholds]."""
    above = [array[..., None] > thresholds for array in map(np.asarray, scores)]
    share = np.mean([array.mean(0) for array in above], axis=0)
    random = np.random.default_rng(0)
    resampled = np.mean(
        [array[random.integers(len(array), size=(RESAMPLES // 5, len(array)))].mean(1) for array in above], axis=0
    )
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return share, low, high


def probability_of_improvement(x: Scores, y: Scores) -> Estimate:
    """P(X > Y) averaged over environments, with ties counted half: the Mann–Whitney statistic; and its interval."""
    value = float(_improvement(x, y))
    if min(max(map(len, x)), max(map(len, y))) < 2:
        return Estimate(value)
    low, high = np.percentile(_improvement(_resampled(x, 1), _resampled(y, 2)), [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _improvement(x: Scores, y: Scores) -> np.ndarray:
    pairs = [(one[..., :, None], two[..., None, :]) for one, two in zip(x, y, strict=True)]
    return np.asarray(np.mean([((a > b) + 0.5 * (a == b)).mean((-2, -1)) for a, b in pairs], axis=0))


def _resampled(scores: Scores, seed: int = 0) -> list[np.ndarray]:
    """[resamples, runs] for each environment."""
    random = np.random.default_rng(seed)
    return [random.choice(np.asarray(array), (RESAMPLES, len(array))) for array in scores]
