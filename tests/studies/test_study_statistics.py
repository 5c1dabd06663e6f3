"""The statistics of studies: against rliable and scipy, and at their edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from asyncrl.studies import statistics
from asyncrl.studies.statistics import (
    Estimate,
    aggregate,
    difference,
    iqm_over,
    mean_over,
    mean_with_interval,
    normalized,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    seeds_to_separate,
    separated,
    student_quantile,
)

RUNS, TASKS = 8, 5


def scores(seed: int, runs: int = RUNS, shift: float = 0.0) -> np.ndarray:
    """[runs, tasks] normalized scores whose level differs by task."""
    random = np.random.default_rng(seed)
    return random.normal(np.linspace(0.2, 1.1, TASKS) + shift, 0.3, (runs, TASKS))


def by_task(array: np.ndarray) -> list[np.ndarray]:
    return list(array.T)


def test_point_estimates_are_those_of_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="pip install rliable")
    x, y = scores(1), scores(2, runs=6, shift=0.1)
    assert iqm_over(by_task(x)) == pytest.approx(metrics.aggregate_iqm(x))
    assert mean_over(by_task(x)) == pytest.approx(metrics.aggregate_mean(x))
    assert optimality_gap(by_task(x)) == pytest.approx(metrics.aggregate_optimality_gap(x))
    expected = metrics.probability_of_improvement(x, y)
    assert probability_of_improvement(by_task(x), by_task(y)).value == pytest.approx(expected)
    tied = np.round(x, 1), np.round(y, 1)
    assert probability_of_improvement(*map(by_task, tied)).value == pytest.approx(metrics.probability_of_improvement(*tied))


@pytest.fixture
def rliable_library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """rliable, which passes `random_state` to a package that has since renamed it; nothing else is changed."""
    library = pytest.importorskip("rliable.library", reason="pip install rliable 'pandas<3'")
    for cls in (library.arch_bs.IIDBootstrap, library.arch_bs.IndependentSamplesBootstrap):
        make = cls.__init__

        def without_state(self: Any, *args: Any, random_state: None = None, make: Any = make, **kwargs: Any) -> None:
            make(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__init__", without_state)
    return library


def test_intervals_are_those_of_rliable_up_to_the_bootstraps_noise(rliable_library: Any) -> None:
    library = rliable_library
    metrics = pytest.importorskip("rliable.metrics", reason="pip install rliable")
    x, y = scores(1), scores(2, shift=0.1)
    np.random.seed(0)  # rliable draws from the global generator

    def improvement(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.array([metrics.probability_of_improvement(one, two)])

    _, theirs = library.get_interval_estimates({"x": x}, lambda a: np.array([metrics.aggregate_iqm(a)]), reps=2_000)
    assert aggregate(by_task(x), iqm_over)[1:] == pytest.approx(theirs["x"][:, 0], abs=0.02)
    _, theirs = library.get_interval_estimates({"x,y": (x, y)}, improvement, reps=500)
    assert probability_of_improvement(by_task(x), by_task(y))[1:] == pytest.approx(theirs["x,y"][:, 0], abs=0.04)
    thresholds = np.linspace(0, 1.5, 7)
    profile, bands = library.create_performance_profile({"x": x}, thresholds, reps=500)
    share, low, high = performance_profile(by_task(x), thresholds)
    assert share == pytest.approx(profile["x"])
    assert np.stack([low, high]) == pytest.approx(bands["x"], abs=0.06)


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.706), (2, 4.303), (4, 2.776), (7.5, 2.333), (100, 1.984)])
def test_students_quantiles_are_those_of_the_tables(degrees: float, expected: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(expected, abs=1e-3)


def test_the_intervals_of_means_and_differences_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="pip install scipy")
    x, y = scores(3)[:, 0], scores(4, runs=5)[:, 1]
    expected = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    assert mean_with_interval(x)[1:] == pytest.approx(expected, rel=1e-4)
    welch = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert difference(x, y)[1:] == pytest.approx([welch.low, welch.high], rel=1e-3)


def test_a_single_run_has_no_interval_and_is_never_separated() -> None:
    one = mean_with_interval([3.0])
    assert one.value == 3.0
    assert not one.has_interval
    assert not separated(one, mean_with_interval([9.0, 9.1, 9.2]))
    assert not aggregate([np.array([1.0])], iqm_over).has_interval
    assert math.isnan(difference([1.0], [2.0, 3.0]).low)


def test_intervals_that_touch_are_not_separated() -> None:
    assert not separated(Estimate(1, 0, 2), Estimate(3, 2, 4))
    assert separated(Estimate(1, 0, 2), Estimate(3, 2.1, 4))
    assert not separated(mean_with_interval([500.0] * 3), mean_with_interval([500.0] * 3))


def test_the_seeds_to_separate_two_means_are_the_fewest_that_do() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.5, 2.5])
    needed = seeds_to_separate(x, y)
    assert needed is not None

    def apart(runs: int) -> bool:
        half = student_quantile(0.975, runs - 1) / math.sqrt(runs)  # both standard deviations are 1
        return 2 * half < 0.5

    assert apart(needed)
    assert not apart(needed - 1)
    assert seeds_to_separate(x, x) is None
    assert seeds_to_separate(x, x + 1e-6) is None


def test_scores_are_normalized_linearly() -> None:
    assert normalized(np.array([-20.7, 14.6, 50.0]), -20.7, 14.6) == pytest.approx([0, 1, 2.00283], abs=1e-4)


def test_environments_may_have_different_numbers_of_runs() -> None:
    found = aggregate([np.array([0.0, 1.0, 1.0]), np.array([0.5])], mean_over)
    assert found.value == pytest.approx((2 / 3 + 0.5) / 2)
    assert found.low < found.value < found.high
    assert statistics.RESAMPLES >= 2_000
