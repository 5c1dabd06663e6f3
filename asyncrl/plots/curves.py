"""Learning curves: the numbers of one run over an axis, and their mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeGuard

import numpy as np

from asyncrl.common.statistics import student_quantile
from asyncrl.monitor import Record
from asyncrl.plots.sources import PlottedRun

__all__ = [
    "Band",
    "Curve",
    "Evaluations",
    "XAxis",
    "evaluations",
    "is_number",
    "mean_curve",
    "mean_interval",
    "training_curve",
]

_FEWEST = 3
"""Seeds that an interval is drawn for."""
_POINTS = 300
"""Points of a mean over seeds."""
_QUANTILE = 0.975
"""Of Student's t, for an interval of 95 %."""


class XAxis(Enum):
    """What a learning curve is drawn over."""

    STEPS = "steps"
    """environment steps over all actors"""
    EPISODES = "episodes"
    """finished training episodes"""
    TIME = "time"
    """wall time of the run"""


@dataclass(frozen=True)
class Curve:
    """Values over an axis; both are [N] float64, and x does not fall."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Band:
    """The mean of curves with the half-width of its 95 % interval (NaN for less than three); all are [N] float64."""

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of one run: [N] positions, mean returns, and half-widths of their 95 % intervals over episodes."""

    x: np.ndarray
    mean: np.ndarray
    half: np.ndarray


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of `values` [S, …] over S and the half-width of its 95 % interval by Student's t; NaN for S < 3.

    Two values say next to nothing: their interval is 18 times as wide as their distance.
    """
    count = len(values)
    if count < _FEWEST:
        return values.mean(0), np.full(values.shape[1:], math.nan)
    return values.mean(0), student_quantile(_QUANTILE, count - 1) * values.std(0, ddof=1) / math.sqrt(count)


def training_curve(records: Sequence[Record], field: str, axis: XAxis) -> Curve:
    """A field of a run's `train` records over `axis`. Records without it are left out."""
    pairs = [(_position(r, axis), r[field]) for r in records if is_number(r.get(field))]
    x, y = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Curve(x, y)


def _position(record: Record, axis: XAxis) -> float:
    names = {XAxis.STEPS: "step", XAxis.EPISODES: "episodes", XAxis.TIME: "time"}
    value = record.get(names[axis])
    return float(value) if is_number(value) else 0.0


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value of a record is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def evaluations(run: PlottedRun, train: Sequence[Record], axis: XAxis) -> Evaluations:
    """A run's evaluations over `axis`; `train` are its train records, by which episodes are counted."""
    found = run.records("eval")
    if axis is XAxis.EPISODES:
        episodes = training_curve(train, "episodes", XAxis.STEPS)
        if not len(episodes.x):
            found = []
        x = np.array([np.interp(record["step"], episodes.x, episodes.y) for record in found], dtype=np.float64)
    else:
        x = np.array([_position(record, axis) for record in found], dtype=np.float64)
    mean = np.array([record["mean"] for record in found], dtype=np.float64)
    half = np.array([_half_width(record) for record in found], dtype=np.float64)
    return Evaluations(x, mean, half)


def _half_width(record: Record) -> float:
    count, spread = record.get("episodes"), record.get("std")
    if not isinstance(count, int) or not 2 <= count < 1e9 or not is_number(spread):
        return math.nan
    return student_quantile(_QUANTILE, count - 1) * spread / math.sqrt(count - 1)  # `std` divides by the number of episodes


def mean_curve(curves: Sequence[Curve]) -> Band | None:
    """The mean over seeds, from where all curves have begun to where the first ends; None if there is no such part.

    Curves are interpolated linearly.
    """
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        return None
    first, last = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if first > last:
        return None
    x = curves[0].x if len(curves) == 1 else np.linspace(first, last, _POINTS)
    mean, half = mean_interval(np.stack([np.interp(x, curve.x, curve.y) for curve in curves]))
    return Band(x, mean, half)
