"""Figures of runs: what is asked for, one below the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from asyncrl.common.validation import as_path
from asyncrl.errors import UsageError, suggestions
from asyncrl.plots.curves import XAxis
from asyncrl.plots.distributions import draw_episodes, draw_lags, draw_scores, scores_of
from asyncrl.plots.learning import draw_metrics, draw_returns, metric_names, metric_rows
from asyncrl.plots.output import check_output, write
from asyncrl.plots.sources import Group, PlottedRun, find_runs, group_runs
from asyncrl.plots.style import new_figure, panel_grid
from asyncrl.runs.names import run_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "What", "compose", "pictures", "plot"]


class What(Enum):
    """What a plot shows."""

    RETURNS = "returns"
    """learning curves: training returns and evaluations"""
    SCORES = "scores"
    """returns of the episodes in the last evaluation"""
    EPISODES = "episodes"
    """histograms of the last training episodes: return and length"""
    LAG = "lag"
    """histogram of the policy lag"""
    LOSSES = "losses"
    """losses and the other metrics of the learner"""
    FILTERS = "filters"
    """filters of the first convolution"""
    ALL = "all"


_TITLES = {
    What.RETURNS: "Learning curves",
    What.SCORES: "Scores of the last evaluation",
    What.EPISODES: "Training episodes",
    What.LAG: "Policy lag",
    What.LOSSES: "Losses and metrics",
    What.FILTERS: "First convolution",
}


@dataclass(frozen=True)
class Picture:
    """A part of a figure: its size in inches, and the function that draws it into a figure."""

    title: str
    width: float
    height: float
    draw: Callable[[Any], None]


def plot(
    *runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    what: str | Sequence[str] = "returns",
    x: str = "steps",
    out: str | os.PathLike[str] | None = None,
    trust: bool = False,
) -> Figure:
    """Return a figure of runs, which matplotlib can change and save.

    Args:
        runs: Runs, their folders, folders that contain runs, or pretrained agents. Runs that differ in nothing but the seed
            are shown as their mean with its 95 % interval; every environment has its own panel. One list of them is
            taken as well.
        what: "returns", "scores", "episodes", "lag", "losses", "filters", several of these, or "all".
        x: What learning curves are drawn over: "steps", "episodes" or "time".
        out: A file to write as well: .png, .svg, .pdf or .html.
        trust: Run code that the run folders name even if someone else made them; only "filters" load agents.

    Raises:
        UsageError: If there are no runs, or if they have no data yet.

    >>> plot("runs/ppo-1", "runs/ppo-2", what=("returns", "scores"), out="learning.pdf")
    """
    file = None if out is None else check_output(as_path("out", out))
    asked = [_member(What, "what", word) for word in ([what] if isinstance(what, str) else what)]
    found = pictures(find_runs(run_names(*runs)), asked, _member(XAxis, "x", x), trust=trust)
    figure = compose(found)
    if file is not None:
        write(found, figure, file)
    return figure


def _member(kind: Any, name: str, word: Any) -> Any:
    """The member of an enum with this value. Raises UsageError if there is none."""
    if isinstance(word, kind):
        return word
    values = [member.value for member in kind]
    if word not in values:
        raise UsageError(f"{name}: {word!r} is not one of {', '.join(values)}{suggestions(str(word), values)}")
    return kind(word)


def pictures(runs: Sequence[PlottedRun], what: Sequence[What], axis: XAxis, *, trust: bool = False) -> list[Picture]:
    """The parts of a figure of `runs`. Raises UsageError if there is nothing to draw.

    Runs without data are left out; with `What.ALL`, so is what these runs do not have.
    """
    shown = [run for run in runs if run.has_data]
    if not shown:
        names = f"{runs[0].path} has" if len(runs) == 1 else f"all {len(runs)} runs have"
        raise UsageError(f"{names} no data yet: no update has been recorded")
    panels: dict[str, list[Group]] = {}
    for group in group_runs(shown):
        panels.setdefault(group.env, []).append(group)
    everything = What.ALL in what
    kinds = [kind for kind in What if kind is not What.ALL] if everything else list(dict.fromkeys(what))
    found = []
    for kind in kinds:
        try:
            found.append(_picture(kind, panels, shown, axis, trust=trust))
        except UsageError:
            if not everything:
                raise
    return found


def _picture(
    kind: What, panels: Mapping[str, Sequence[Group]], runs: Sequence[PlottedRun], axis: XAxis, *, trust: bool
) -> Picture:
    count, most, title = len(panels), max(map(len, panels.values())), _TITLES[kind]
    rows, columns = panel_grid(count)
    wide = 6.4 if count == 1 else 3.6 * columns
    match kind:
        case What.RETURNS:
            return Picture(title, wide, 3.6 if count == 1 else 2.9 * rows + 0.4, lambda f: draw_returns(f, panels, axis))
        case What.SCORES:
            if not any(len(scores_of(group)) for groups in panels.values() for group in groups):
                raise UsageError("these runs have no evaluation yet, so there are no scores to show")
            return Picture(title, max(wide, 5.0), (1.2 + 0.5 * most) * rows, lambda f: draw_scores(f, panels))
        case What.EPISODES:
            return Picture(title, 7.0, 2.6 * count + 0.2, lambda f: draw_episodes(f, panels))
        case What.LAG:
            return Picture(title, max(wide, 4.2), 2.8 * rows, lambda f: draw_lags(f, panels))
        case What.LOSSES:
            if not any(map(metric_names, panels.values())):
                raise UsageError("these runs have no losses: nothing was learned yet")
            height = 2.1 * sum(map(metric_rows, panels.values())) + 0.4 * count
            return Picture(title, 8.4, height, lambda f: draw_metrics(f, panels, axis))
        case _:
            from asyncrl.plots.filters import draw_filters, filters_of  # they alone need torch

            layers = filters_of(runs, trust=trust)
            kernels = sum(len(layer.inputs) + 1 for layer in layers)
            return Picture(title, 9.0, 0.55 * kernels + 0.5 * len(layers) + 0.3, lambda f: draw_filters(f, layers))


def compose(found: Sequence[Picture]) -> Figure:
    """One figure with the pictures below each other."""
    if len(found) == 1:
        figure = new_figure(found[0].width, found[0].height)
        found[0].draw(figure)
        return figure
    heights = [picture.height for picture in found]
    figure = new_figure(max(picture.width for picture in found), sum(heights))
    for part, picture in zip(
        figure.subfigures(len(found), 1, height_ratios=heights, squeeze=False).flat, found, strict=True
    ):
        picture.draw(part)
    return figure
