"""Distributions: scores of the last evaluation, training episodes, policy lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asyncrl.plots.curves import is_number
from asyncrl.plots.sources import Group, line_numbers
from asyncrl.plots.style import INK, MUTED, SMALL, colour, dress, large_numbers, note, panel_axes

__all__ = ["draw_episodes", "draw_lags", "draw_scores", "scores_of"]

_BINS = 30
_TICKED = 8
"""Bins up to which each is numbered."""
_RECENT = 0.2
"""Share of a run's steps whose episodes are in the histograms: its end."""


def scores_of(group: Group) -> np.ndarray:
    """[N] returns of the episodes in the last evaluation of every run."""
    found: list[float] = []
    for run in group.runs:
        for record in run.records("eval")[-1:]:
            returns = record.get("returns")
            found += [x for x in returns if is_number(x)] if isinstance(returns, list) else []
    return np.array(found, dtype=np.float64)


def draw_scores(figure: Any, panels: Mapping[str, Sequence[Group]]) -> None:
    """A panel per environment and a row per group: every return of the last evaluations, their quartiles and mean."""
    random, indices = np.random.default_rng(0), line_numbers(panels)
    for axes, (env, groups) in zip(panel_axes(figure, len(panels)), panels.items(), strict=True):
        dress(axes, title=env, x="return of an episode", grid="x")
        for row, group in enumerate(groups):
            scores = scores_of(group)
            if not len(scores):
                continue
            ink = colour(indices[group.label])
            axes.scatter(scores, row + random.uniform(-0.25, 0.25, len(scores)), s=7, color=ink, alpha=0.35, linewidths=0)
            low, middle, high = np.percentile(scores, [25, 50, 75])
            axes.plot([low, high], [row, row], color=ink, linewidth=5, alpha=0.5, solid_capstyle="butt")
            axes.plot([middle, middle], [row - 0.3, row + 0.3], color=INK, linewidth=1.6)
            axes.plot(scores.mean(), row, "D", color="white", markeredgecolor=INK, markersize=5, zorder=5)
        axes.set_yticks(range(len(groups)), [f"{group}" for group in groups], fontsize=SMALL)
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        large_numbers(axes, "x")
    note(figure, "dots: episodes of the last evaluation · bar: middle half · line: median · diamond: mean")


def draw_episodes(figure: Any, panels: Mapping[str, Sequence[Group]]) -> None:
    """A row per environment: histograms of return and length of the training episodes at the end of the runs."""
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for row, (env, groups) in enumerate(panels.items()):
        found = [_last_episodes(group) for group in groups]
        labels = ("return of an episode", "length of an episode (steps)")
        for axes, column, label in zip(grid[row], (0, 1), labels, strict=True):
            dress(axes, title=env if column == 0 else "", x=label, y="share of episodes" * (column == 0))
            _histograms(axes, groups, [episodes[:, column] for episodes in found], line_numbers(panels), named=column == 0)
    note(figure, f"training episodes of the last {_RECENT:.0%} of a run's steps")


def _last_episodes(group: Group) -> np.ndarray:
    """[N, 2] return and length of the episodes at the end of the runs."""
    rows: list[tuple[float, float]] = []
    for run in group.runs:
        records = run.records("episode")
        first = (1 - _RECENT) * records[-1]["step"] if records else 0
        rows += [(record["return"], record["length"]) for record in records if record["step"] >= first]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def draw_lags(figure: Any, panels: Mapping[str, Sequence[Group]]) -> None:
    """A panel per environment: histogram of the policy lag, which train records hold as a mean."""
    for axes, (env, groups) in zip(panel_axes(figure, len(panels)), panels.items(), strict=True):
        dress(axes, title=env, x="policy lag (updates)", y="share of the run")
        lags = []
        for group in groups:
            found = [record.get("policy_lag") for run in group.runs for record in run.records("train")]
            lags.append(np.array([lag for lag in found if is_number(lag)], dtype=np.float64))
        _histograms(axes, groups, lags, line_numbers(panels))
    note(figure, "mean lag of the rollouts in a record: weights version that learns minus version that acted")


def _histograms(
    axes: Any, groups: Sequence[Group], values: Sequence[np.ndarray], indices: Mapping[str, int], *, named: bool = True
) -> None:
    """Outlined histograms of the groups' values; `named` adds a legend if there are several."""
    everything = np.concatenate([*values, np.zeros(0)])
    if not len(everything):
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=MUTED, fontsize=SMALL)
        return
    bins = _bins(everything)
    for group, own in zip(groups, values, strict=True):
        if len(own):
            weights = np.full(len(own), 1 / len(own))
            style: dict[str, Any] = {"bins": bins, "weights": weights, "color": colour(indices[group.label])}
            axes.hist(own, histtype="stepfilled", alpha=0.2, **style)
            axes.hist(own, histtype="step", linewidth=1.4, label=str(group), **style)
    large_numbers(axes, "x")
    if len(bins) <= _TICKED:
        axes.set_xticks((bins[:-1] + bins[1:]) / 2)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    if named and len(groups) > 1:
        for text in axes.legend(frameon=False, fontsize=SMALL, handlelength=1.2).get_texts():
            text.set(parse_math=False, color=INK)


def _bins(values: np.ndarray) -> np.ndarray:
    """The edges of the bins: around whole numbers if the values are a few of these."""
    low, high = float(values.min()), float(values.max())
    if high - low < _BINS and np.array_equal(values, values.round()):
        return np.arange(low, high + 2) - 0.5
    return np.linspace(low, high, _BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
