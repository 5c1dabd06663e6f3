"""Figures of a report as SVG; None where matplotlib is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asyncrl.errors import UsageError
from asyncrl.plots.document import svg_of
from asyncrl.studies.statistics import Estimate, Scores, performance_profile

__all__ = ["interval_figure", "learning_figure", "profile_figure"]

_WIDTH = 7.2
"""Inches."""


def interval_figure(estimates: Mapping[str, Estimate], label: str) -> str | None:
    """Values with their intervals, a row for each method."""
    if find_spec("matplotlib") is None:
        return None
    from asyncrl.plots.style import colour, dress, new_figure

    names = sorted(estimates, key=lambda name: estimates[name].value)
    figure = new_figure(_WIDTH, 0.75 + 0.3 * len(names))
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        estimate = estimates[name]
        if estimate.has_interval:
            axes.plot([estimate.low, estimate.high], [row, row], color=colour(0), linewidth=3, alpha=0.4)
        axes.plot([estimate.value], [row], "o", color=colour(0), markersize=5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    dress(axes, x=label, grid="x")
    return svg_of(figure)


def learning_figure(folder: Path) -> str | None:
    """The learning curves of the runs in a folder; None also if there are none yet."""
    if find_spec("matplotlib") is None or not folder.is_dir():
        return None
    from asyncrl.plots.figures import plot

    try:
        return svg_of(plot(folder))
    except UsageError:
        return None


def profile_figure(scores: Mapping[str, Scores]) -> str | None:
    """Performance profiles: the share of runs above each normalized score, with intervals."""
    if find_spec("matplotlib") is None:
        return None
    from asyncrl.plots.style import colour, dress, line_style, new_figure

    highest = max(1.1, *(float(array.max()) for found in scores.values() for array in map(np.asarray, found)))
    thresholds = np.linspace(0, min(highest * 1.05, 10.0), 101)
    figure = new_figure(_WIDTH, 3.2)
    axes = figure.add_subplot()
    for index, (name, found) in enumerate(scores.items()):
        share, low, high = performance_profile(found, thresholds)
        axes.fill_between(thresholds, low, high, color=colour(index), alpha=0.12, linewidth=0)
        axes.step(thresholds, share, color=colour(index), linestyle=line_style(index), where="post", label=name)
    axes.set_xlim(0, thresholds[-1])
    axes.set_ylim(-0.02, 1.02)
    dress(axes, x="normalized score τ", y="share of runs above τ")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return svg_of(figure)
