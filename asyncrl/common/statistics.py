"""Estimates from samples: interquartile means, bootstrap intervals, quantiles of Student's t distribution."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

__all__ = ["iqm", "student_quantile", "summarize"]

_MAX_RESAMPLED = 2**21
"""Values that a bootstrap draws at once: they take 16 MiB, and are sorted."""


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean along the last axis: the mean of the middle half (Agarwal et al. 2021).

    A quarter of the weight is cut off at each end; if that is not a whole number of values, the outermost remaining
    values count in part.
    """
    values = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = values.shape[-1]
    edges = np.arange(n + 1) / n
    weight = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return np.asarray((values * weight).sum(-1) / weight.sum())


def summarize(returns: list[float], resamples: int = 10_000) -> dict[str, Any]:
    """mean, std, median, iqm and its bootstrap 95 % interval over episodes, episodes."""
    values = np.asarray(returns, dtype=np.float64)
    random = np.random.default_rng(0)
    rows = max(1, _MAX_RESAMPLED // len(values))
    parts = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    resampled = np.concatenate([iqm(random.choice(values, (part, len(values)))) for part in parts])
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "median": float(np.median(values)),
        "iqm": float(iqm(values)),
        "iqm_interval": [float(low), float(high)],
        "episodes": len(values),
    }


@functools.cache
def student_quantile(p: float, degrees: float) -> float:
    """The `p` quantile, 0.5 < p < 1, of Student's t distribution with `degrees` ≥ 1 degrees of freedom.

    With t = √ν tan θ its density is proportional to cos^(ν − 1) θ, which is integrated numerically.
    """
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    theta = np.interp(p - 0.5, area / area[-1] / 2, angle)
    return float(math.sqrt(degrees) * math.tan(theta))
