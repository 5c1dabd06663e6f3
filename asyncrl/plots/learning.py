"""Learning curves: training returns beside evaluations, and the algorithm's own metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncrl.monitor import Record
from asyncrl.plots.curves import Band, Curve, Evaluations, XAxis, evaluations, mean_curve, mean_interval, training_curve
from asyncrl.plots.sources import Group, line_numbers
from asyncrl.plots.style import (
    INK,
    NORMAL,
    Label,
    colour,
    dress,
    label_lines,
    large_numbers,
    legend,
    line_style,
    note,
    panel_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_metrics", "draw_returns", "metric_names", "metric_rows"]

_DIRECT_LABELS = 6
"""Lines that are labelled at their ends; more of them have a legend."""
_APART = 0.1
"""Distance of evaluations, as a share of the axis, up to which they are one point."""
_MARKED = 25
"""Evaluations of a run that are drawn as points; more of them are a dashed line."""
_GENERAL = {
    *("step", "update", "time", "kind", "episodes", "mean_return", "means", "actions", "policy_lag", "policy_lag_max"),
    *("frames_per_second", "worker_restarts", "return_std"),
}
"""Fields of train records that other plots show, or that are not curves."""
_OF_SPEED = ("steps_per_second", "queue_fill", "waiting_share", "learning_share")
_METRICS_BESIDE = 3
_UNITS = {
    "entropy": "nats",
    "kl": "nats",
    "steps_per_second": "steps / s",
    "value_loss": "reward²",
    "critic_loss": "reward²",
    "queue_fill": "share",
    "waiting_share": "share of the time",
    "learning_share": "share of the time",
    "clip_fraction": "share of the steps",
}
_SECONDS = ((1, "s"), (60, "min"), (3_600, "h"))


def draw_returns(figure: Any, panels: Mapping[str, Sequence[Group]], axis: XAxis) -> None:
    """A panel per environment: training returns and evaluations of every group."""
    indices = line_numbers(panels)
    for axes, (env, groups) in zip(panel_axes(figure, len(panels)), panels.items(), strict=True):
        dress(axes, title=env, y="return")
        labels, heights, longest = [], [], 0.0
        for group in groups:
            index = indices[group.label]
            label, drawn, end = _draw_group(axes, group, axis, index)
            labels += [label] * (label is not None)
            heights += drawn
            longest = max(longest, end)
        _fit(axes, heights)
        _label_x(axes, axis, longest)
        if len(panels) == 1 and len(indices) <= _DIRECT_LABELS:
            label_lines(axes, [label for label in labels if label is not None])
    if len(panels) > 1 or len(indices) > _DIRECT_LABELS:
        _legend(figure, panels, indices)
    seeds = max(len(group.runs) for groups in panels.values() for group in groups)
    mean = "mean over seeds" + " with its 95 % interval" * (seeds > 2) + " · thin: single seeds" if seeds > 1 else ""
    note(figure, " · ".join(filter(None, ["line: the last 100 training episodes", "points: evaluations", mean])))


def _draw_group(axes: Axes, group: Group, axis: XAxis, index: int) -> tuple[Label | None, list[np.ndarray], float]:
    """Draw a group. Returns the label for its line, what must be visible, and the largest x."""
    style: dict[str, Any] = {"color": colour(index), "linestyle": line_style(index)}
    train = {run.path: run.records("train") for run in group.runs}
    curves = [training_curve(train[run.path], "mean_return", axis) for run in group.runs]
    curves = [curve for curve in curves if len(curve.x)]
    if len(curves) > 1:
        for curve in curves:
            axes.plot(curve.x, curve.y, linewidth=0.5, alpha=0.35, **style)
    band = mean_curve(curves)
    if band is not None:
        _draw_band(axes, band, style)
    found = [evaluations(run, train[run.path], axis) for run in group.runs]
    heights = [curve.y for curve in curves] + [one.mean for one in found]
    end = max([0.0, *(float(curve.x[-1]) for curve in curves)])
    points = _draw_evaluations(axes, [one for one in found if len(one.x)], colour(index))
    ends = [(band.x[-1], band.mean[-1])] if band is not None else points[-1:]
    label = Label(float(ends[0][0]), float(ends[0][1]), str(group), colour(index)) if ends else None
    return label, heights, max([end, *(x for x, _ in points)])


def _draw_band(axes: Axes, band: Band, style: Mapping[str, Any]) -> None:
    axes.plot(band.x, band.mean, linewidth=1.6, **style)
    if not np.isnan(band.half).all():
        axes.fill_between(
            band.x, band.mean - band.half, band.mean + band.half, color=style["color"], alpha=0.15, linewidth=0
        )


def _draw_evaluations(axes: Axes, found: Sequence[Evaluations], ink: str) -> list[tuple[float, float]]:
    """Draw the evaluations of a group's runs: as points if they are few and all runs made them at the same places.

    Returns the positions of the points.
    """
    if not found:
        return []
    style: dict[str, Any] = {"color": ink, "linewidth": 0.8, "zorder": 4}
    found = _first(found, min(len(one.x) for one in found))
    x = np.mean([one.x for one in found], axis=0)
    if len(x) > _MARKED or any(np.abs(one.x - x).max() > _APART * x.max() for one in found):
        band = mean_curve([Curve(one.x, one.mean) for one in found])
        if band is not None:
            axes.plot(band.x, band.mean, dashes=(3, 2), **style)
        return [] if band is None else [(float(band.x[-1]), float(band.mean[-1]))]
    if len(found) == 1:
        mean, half = found[0].mean, found[0].half
    else:
        mean, half = mean_interval(np.stack([one.mean for one in found]))
    error = None if np.isnan(half).all() else np.nan_to_num(half)
    axes.errorbar(
        x, mean, error, fmt="o:", markersize=4, markerfacecolor="white", markeredgewidth=1.2, elinewidth=0.9, **style
    )
    return list(zip(x.tolist(), mean.tolist(), strict=True))


def _first(found: Sequence[Evaluations], count: int) -> list[Evaluations]:
    """The first `count` evaluations of every run: one may be in progress."""
    return [Evaluations(one.x[:count], one.mean[:count], one.half[:count]) for one in found]


def _fit(axes: Axes, heights: Sequence[np.ndarray]) -> None:
    """Show all lines and points; wide intervals of few seeds may leave the axes."""
    values = np.concatenate([*heights, np.zeros(0)])
    if len(values):
        margin = 0.06 * (values.max() - values.min()) or 0.5 * abs(values.max()) or 1.0
        axes.set_ylim(values.min() - margin, values.max() + margin)


def _label_x(axes: Axes, axis: XAxis, longest: float) -> None:
    """The label of the horizontal axis, with the unit of its numbers."""
    axes.set_xlim(0, longest * 1.02 or 1)
    large_numbers(axes, "x")
    large_numbers(axes, "y")
    if axis is XAxis.TIME:
        from matplotlib.ticker import FuncFormatter, MultipleLocator

        seconds, unit = next(((s, u) for s, u in reversed(_SECONDS) if longest >= 3 * s), _SECONDS[0])
        step = _nice(longest / seconds / 5)
        axes.xaxis.set_major_locator(MultipleLocator(step * seconds))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / seconds:g}"))
        axes.set_xlabel(f"wall time ({unit})")
    else:
        axes.set_xlabel("environment steps" if axis is XAxis.STEPS else "training episodes")


def _nice(step: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def draw_metrics(figure: Any, panels: Mapping[str, Sequence[Group]], axis: XAxis) -> None:
    """A block per environment with a panel per metric of the learner."""
    indices, parts = line_numbers(panels), [figure]
    if len(panels) > 1:
        ratios = [metric_rows(groups) for groups in panels.values()]
        parts = figure.subfigures(len(panels), 1, height_ratios=ratios, squeeze=False)[:, 0]
    for part, (env, groups) in zip(parts, panels.items(), strict=True):
        names, records = metric_names(groups), {run.path: run.records("train") for group in groups for run in group.runs}
        grid = list(part.subplots(metric_rows(groups), _METRICS_BESIDE, squeeze=False).flat)
        for number, (name, axes) in enumerate(zip(names, grid, strict=False)):
            dress(axes, title=name.replace("_", " "), y=_UNITS.get(name, ""))
            _draw_metric(axes, groups, records, name, axis, indices)
            if number < len(names) - _METRICS_BESIDE:
                axes.set_xlabel("")
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        if len(panels) > 1:
            part.suptitle(env, x=0.01, ha="left", fontsize=NORMAL, fontweight="bold", color=INK)
    if max(len(group.runs) for groups in panels.values() for group in groups) > 1:
        note(figure, "mean over seeds; band: its 95 % interval, for three seeds or more")
    if len(indices) > 1:
        _legend(figure, panels, indices)


def _draw_metric(
    axes: Axes,
    groups: Sequence[Group],
    records: Mapping[Any, Sequence[Record]],
    name: str,
    axis: XAxis,
    indices: Mapping[str, int],
) -> None:
    heights, longest = list[np.ndarray](), 0.0
    for group in groups:
        index = indices[group.label]
        band = mean_curve([training_curve(records[run.path], name, axis) for run in group.runs])
        if band is not None:
            _draw_band(axes, band, {"color": colour(index), "linestyle": line_style(index)})
            heights.append(band.mean)
            longest = max(longest, float(band.x[-1]))
    _fit(axes, [np.percentile(values, [0.5, 99.5]) for values in heights])
    _label_x(axes, axis, longest)


def metric_names(groups: Iterable[Group]) -> list[str]:
    """The fields of train records that are curves of the learner; those on the run's speed come last."""
    names: dict[str, None] = {}
    for group in groups:
        for record in group.runs[0].records("train")[-5:]:
            names |= {name: None for name, value in record.items() if name not in _GENERAL and isinstance(value, float)}
    return sorted(names, key=_OF_SPEED.__contains__)


def metric_rows(groups: Sequence[Group]) -> int:
    """Rows of panels that `draw_metrics` fills for these groups."""
    return max(1, math.ceil(len(metric_names(groups)) / _METRICS_BESIDE))


def _legend(figure: Any, panels: Mapping[str, Sequence[Group]], indices: Mapping[str, int]) -> None:
    """A legend with each label once, and with its number of seeds if that is the same everywhere."""
    from matplotlib.lines import Line2D

    texts = []
    for label in indices:
        found = {str(group) for groups in panels.values() for group in groups if group.label == label}
        texts.append(found.pop() if len(found) == 1 else label)
    lines = [Line2D([], [], color=colour(i), linestyle=line_style(i), linewidth=1.6) for i in indices.values()]
    legend(figure, lines, texts)
