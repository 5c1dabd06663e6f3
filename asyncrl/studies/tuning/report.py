"""What a tuning study found: the best settings as a file, a table, and figures."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.common.serialization import to_json, write_atomically
from asyncrl.plots.figures import Picture, compose
from asyncrl.plots.output import write
from asyncrl.plots.style import MUTED, SMALL, colour, dress, note
from asyncrl.studies.statistics import Estimate, mean_with_interval
from asyncrl.studies.tuning.runs import settings_path
from asyncrl.studies.tuning.storage import Objective, State, Storage, Trial, ranked_by

__all__ = ["TuningResult", "write_results"]

_BEST, _MAX_SHOWN = "best.toml", 12
_IMPORTANCE = {Objective.SCORE: "importance for a good score", Objective.SECONDS: "importance for a short run"}
_AXES = {Objective.SCORE: "score (mean return)", Objective.SECONDS: "wall time of a run (s)"}


@dataclass(frozen=True)
class TuningResult:
    """The results of a tuning study."""

    folder: Path
    objectives: Sequence[Objective]
    best: Trial
    """The trial with the best mean over the other seeds, of those that finished with most of them; without any, the best
    one."""
    trials: Sequence[Trial]
    front: Sequence[Trial]
    """The best trials, the best first: with two objectives those of the Pareto front, by score."""
    seeds: Mapping[int, Mapping[int, float]]
    """The results of the best trials' settings with other seeds, scores or seconds (`ranked_by`), by trial and seed."""
    importances: Mapping[str, float]
    """How much each setting decides whether a trial is good, adding up to 1, the largest first; empty for few trials."""

    @property
    def settings_file(self) -> Path:
        """The best settings, for `train(config=…)`, which repeats the best trial."""
        return self.folder / _BEST

    @property
    def over_seeds(self) -> Estimate | None:
        """The best settings' mean over the other seeds, which did not choose them; None without any."""
        return _mean(self.seeds.get(self.best.number, {}))

    @property
    def ranked_by(self) -> Objective:
        """What trials are ranked by."""
        return ranked_by(self.objectives)


def write_results(
    folder: Path, title: str, objectives: Sequence[Objective], storage: Storage, others: Collection[int]
) -> TuningResult:
    """Write best.toml, tuning.png and tuning.html into the folder of a study; `others` are the other seeds.

    A trial whose run has failed with one of them does not win by the mean over the rest.
    """
    seeds = {
        int(number): {int(seed): score for seed, score in found.items() if int(seed) in others}
        for number, found in storage.seeds.items()
    }
    front = storage.best()
    tested = {one.number: list(scores.values()) for one in front if (scores := seeds.get(one.number))}
    most = max(map(len, tested.values()), default=0)
    means = {number: mean_with_interval(scores).value for number, scores in tested.items() if len(scores) == most}
    best_mean = ranked_by(objectives).best(means.values()) if means else None
    best = next((one for one in front if means.get(one.number) == best_mean), front[0])
    result = TuningResult(folder, objectives, best, storage.trials(), front, seeds, storage.importances())
    write_atomically(result.settings_file, _settings(result, title))
    found = _pictures(result)
    write(found, compose(found), folder / "tuning.png")
    write(found, compose(found), folder / "tuning.html")
    return result


def _settings(result: TuningResult, title: str) -> str:
    """The settings file of the best trial, with a preset's description."""
    text = settings_path(result.folder / "trials" / f"{result.best.number:03}").read_text(encoding="utf-8")
    description = f"{title}, trial {result.best.number} of {len(result.trials)} of asyncrl tune: "
    description += result.ranked_by.shown(result.best.value(result.ranked_by) or 0.0)
    if (mean := result.over_seeds) is not None:
        description += f"; {_estimate(mean)} over other seeds"
    head, _, tables = text.partition("\n")
    return f"{head}\ndescription = {json.dumps(description, ensure_ascii=False)}\n{tables}"


def _mean(values: Mapping[int, float]) -> Estimate | None:
    """The mean over seeds; None without any."""
    return mean_with_interval(list(values.values())) if values else None


def _estimate(found: Estimate) -> str:
    return f"{found.value:.1f} ({found.low:.1f} … {found.high:.1f})" if found.has_interval else f"{found.value:.1f}"


def result_lines(result: TuningResult) -> list[str]:
    """The results for the terminal: the best trials, the importances, the best settings."""
    lines = ["the Pareto front"] if len(result.objectives) > 1 else []
    lines.append("trial    score  seconds  over other seeds (95 % interval)")
    for one in result.front[:5]:
        mean = _mean(result.seeds.get(one.number, {}))
        over = _estimate(mean) if mean else ""
        lines.append(f"{one.number:>5} {one.score:>8.1f} {one.seconds:>8.0f}  {over}".rstrip())
    if result.importances:
        lines += ["", _IMPORTANCE[result.ranked_by]]
        lines += [
            f"  {name:<24}{share:>5.0%}  {'█' * round(30 * share)}".rstrip() for name, share in result.importances.items()
        ]
    changed = ", ".join(f"{name} {_shown(value)}" for name, value in result.best.settings.items())
    return [*lines, "", f"best: trial {result.best.number}: {changed}"]


def _shown(value: Any) -> str:
    plain = to_json(value)
    return (
        f"{plain:.4g}" if isinstance(plain, float) else " ".join(map(str, plain)) if isinstance(plain, list) else str(plain)
    )


def _pictures(result: TuningResult) -> list[Picture]:
    """The scores of the trials, the Pareto front with two objectives, and the importances."""
    found = [Picture("Trials", 6.4, 3.2, lambda figure: _draw_trials(figure, result))]
    if len(result.objectives) > 1:
        found.append(Picture("Score and time", 6.4, 3.4, lambda figure: _draw_front(figure, result)))
    if result.importances:
        rows = min(len(result.importances), _MAX_SHOWN)
        found.append(Picture("Importance", 6.4, 0.8 + 0.26 * rows, lambda figure: _draw_importances(figure, result)))
    return found


def _draw_trials(figure: Any, result: TuningResult) -> None:
    axes, objective = figure.subplots(), result.ranked_by
    dress(axes, title="Trials", x="trial", y=_AXES[objective])
    complete, steps = list[float](), list[float]()
    for one in result.trials:
        if one.state is State.COMPLETE and (value := one.value(objective)) is not None:
            complete.append(value)
        steps.append(objective.best(complete) if complete else float("nan"))
    axes.step(
        [one.number for one in result.trials], steps, where="post", color=colour(0), linewidth=1.4, label="best so far"
    )
    for state, marker, ink in ((State.COMPLETE, "o", colour(0)), (State.PRUNED, "x", MUTED)):
        found = [(one.number, one.value(objective)) for one in result.trials if one.state is state]
        points = [(number, value) for number, value in found if value is not None]
        if points:
            label = "complete" if state is State.COMPLETE else "stopped early"
            axes.scatter(*zip(*points, strict=True), s=22, marker=marker, color=ink, linewidths=1, label=label, zorder=3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=SMALL, loc="best")


def _draw_front(figure: Any, result: TuningResult) -> None:
    axes = figure.subplots()
    dress(axes, title="Score and time", x=_AXES[Objective.SECONDS], y=_AXES[Objective.SCORE], grid="both")
    done = [one for one in result.trials if one.state is State.COMPLETE]
    axes.scatter([one.seconds for one in done], [one.score for one in done], s=18, color=MUTED, alpha=0.6, linewidths=0)
    front = sorted(result.front, key=lambda one: one.seconds or 0.0)
    axes.plot(
        [one.seconds for one in front], [one.score for one in front], "-o", color=colour(1), markersize=5, linewidth=1
    )
    for place, one in enumerate(front):
        offset = (0, 6 if place % 2 == 0 else -12)
        axes.annotate(
            f"{one.number}", (one.seconds, one.score), offset, textcoords="offset points", fontsize=SMALL, ha="center"
        )
    note(figure, "line: the Pareto front, with the numbers of its trials")


def _draw_importances(figure: Any, result: TuningResult) -> None:
    axes = figure.subplots()
    dress(axes, title=_IMPORTANCE[result.ranked_by].capitalize(), x="importance (PED-ANOVA)", grid="x")
    shown = list(result.importances.items())[:_MAX_SHOWN][::-1]
    axes.barh([name.replace("_", " ") for name, _ in shown], [share for _, share in shown], color=colour(0), height=0.65)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
