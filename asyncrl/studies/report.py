"""The report of a study: report.md and report.html in its folder."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence

import numpy as np

from asyncrl.common.counting import counted
from asyncrl.common.serialization import write_atomically
from asyncrl.common.statistics import iqm
from asyncrl.plots.document import Block, Figure, Heading, Rows, Text, to_html, to_markdown
from asyncrl.runs.provenance import machine
from asyncrl.studies.figures import interval_figure, learning_figure, profile_figure
from asyncrl.studies.grid import HELD_OUT, command_of
from asyncrl.studies.published import Reference
from asyncrl.studies.ranking import ranking
from asyncrl.studies.statistics import (
    Estimate,
    Scores,
    aggregate,
    iqm_over,
    mean_over,
    mean_with_interval,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    separated,
)
from asyncrl.studies.study import Cell, Study
from asyncrl.studies.suite import Method, Task
from asyncrl.version import __version__

__all__ = ["interval", "report", "shown", "summary_table", "write_report"]

_FEW = 5
"""Seeds below which the report warns."""
_THRESHOLDS = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Normalized scores in the table of performance profiles."""


def write_report(study: Study, references: Sequence[Reference] = ()) -> None:
    """Write report.md and report.html."""
    blocks = list(report(study, references))
    write_atomically(study.path / "report.md", to_markdown(blocks))
    write_atomically(study.path / "report.html", to_html(study.suite.title or study.suite.name, blocks))


def report(study: Study, references: Sequence[Reference] = ()) -> Iterator[Block]:
    """The parts of the report."""
    yield from _introduction(study)
    for task in study.suite.tasks:
        yield from _environment(study, task)
    groups = list(dict.fromkeys(task.group for task in study.suite.tasks))
    for group in groups:
        yield from _aggregates(study.of_group(group), group)
    for reference in references:
        yield from _comparison(study, reference)
    yield from _methods(study)


def _introduction(study: Study) -> Iterator[Block]:
    suite = study.suite
    yield Heading(suite.title or suite.name, 1)
    if suite.description:
        yield Text(suite.description)
    done, total = len(study.cells()) - len(study.unfinished()), len(study.cells())
    yield Text(
        f"{done} of {total} runs over {counted(suite.seeds, 'seed')}. The score of a run is the mean return of its last "
        f"weights over {counted(suite.episodes, 'episode')} in environments with the seed {HELD_OUT}, which no training "
        "uses. Intervals are 95 % intervals over runs: Student's t for means, the stratified bootstrap for aggregates."
    )
    if suite.seeds < _FEW:
        yield Text(f"With fewer than {_FEW} seeds, intervals are wide and unreliable: take this as a first look.")
    facts = machine()
    yield Text(f"asyncrl {__version__}, torch {facts['torch']}, {facts['cores']} cores ({facts['cpu']}).")


def _environment(study: Study, task: Task) -> Iterator[Block]:
    yield Heading(task.env)
    found = {method.name: study.scores(task, method) for method in task.methods}
    found = {name: scores for name, scores in found.items() if len(scores)}
    if not found:
        yield Text("No run has finished.")
        return
    yield summary_table(study, task)
    yield Text(ranking(found))
    estimates = {name: mean_with_interval(scores) for name, scores in found.items()}
    yield from _figure(interval_figure(estimates, f"Mean return on {task.env}"), f"Means and intervals on {task.env}")
    curves = study.path / Cell(task, task.methods[0], 0).folder.parents[1]
    yield from _figure(learning_figure(curves), f"Learning curves on {task.env}")


def summary_table(study: Study, task: Task) -> Rows:
    """The scores of every method in an environment, the best first."""
    header = ["method", "mean", "95 % interval", "IQM", "lowest", "highest", "runs", "steps", "time per run"]
    rows = []
    for method in task.methods:
        results = study.results_of(task, method)
        if results:
            scores = np.array([result.score for result in results])
            mean = mean_with_interval(scores)
            seconds = float(np.mean([result.seconds for result in results]))
            steps = f"{max(result.step for result in results):,}"
            ends = [shown(float(end)) for end in (iqm(scores), scores.min(), scores.max())]
            cells = [method.name, shown(mean.value), interval(mean), *ends, str(len(scores)), steps, f"{seconds:,.0f} s"]
            rows.append((mean.value, cells))
    return Rows(header, [cells for _, cells in sorted(rows, key=lambda row: row[0], reverse=True)])


def _aggregates(study: Study, group: str) -> Iterator[Block]:
    tasks = [task for task in study.suite.tasks if task.reference is not None]
    names = [m.name for m in tasks[0].methods if all(m.name in _names(task) for task in tasks)] if tasks else []
    scores = {name: [_normalized(study, task, name) for task in tasks] for name in names}
    scores = {name: found for name, found in scores.items() if all(map(len, found))}
    yield Heading(f"Normalized scores{f', {group}' if group else ''}")
    if not scores:
        yield Text("No method has a run in every environment with reference scores.")
        return
    scale = "; ".join(
        f"{t.env}: {t.random:g} is 0, {t.reference:g} is 1{f' ({t.source})' if t.source else ''}" for t in tasks
    )
    yield Text(f"Over {len(tasks)} environment{'s' * (len(tasks) > 1)}. {scale}.")
    statistics = {"IQM": iqm_over, "mean": mean_over, "optimality gap": optimality_gap}
    estimates = {name: [aggregate(found, statistic) for statistic in statistics.values()] for name, found in scores.items()}
    best_first = sorted(scores, key=lambda name: estimates[name][0].value, reverse=True)
    yield Rows(["method", *statistics], [[name, *map(with_interval, estimates[name])] for name in best_first])
    yield Text(ranking({name: np.array([]) for name in best_first}, {name: estimates[name][0] for name in best_first}))
    yield from _profiles({name: scores[name] for name in best_first})
    yield from _improvements({name: scores[name] for name in best_first})


def _profiles(scores: dict[str, Scores]) -> Iterator[Block]:
    yield Heading("Performance profile", 3)
    yield Text("The share of runs whose normalized score is above a threshold.")
    shares = {name: performance_profile(found, np.array(_THRESHOLDS))[0] for name, found in scores.items()}
    rows = [[name, *(f"{share:.0%}" for share in found)] for name, found in shares.items()]
    yield Rows(["method", *(f"> {threshold:g}" for threshold in _THRESHOLDS)], rows)
    yield from _figure(profile_figure(scores), "Performance profiles of all methods")


def _improvements(scores: dict[str, Scores]) -> Iterator[Block]:
    if len(scores) < 2:
        return
    yield Heading("Probability of improvement", 3)
    yield Text("The probability that a run of X scores higher than one of Y in the same environment; ties count half.")
    rows = [
        [f"{x} over {y}", with_interval(probability_of_improvement(scores[x], scores[y]))]
        for x, y in itertools.combinations(scores, 2)
    ]
    yield Rows(["X over Y", "probability"], rows)


def _comparison(study: Study, reference: Reference) -> Iterator[Block]:
    yield Heading(f"Compared with: {reference.title}")
    yield Text(f"Source: {reference.source}. {reference.rules}")
    tasks = [task for task in study.suite.tasks if reference.of(task.env) and _finished(study, task)]
    for task in tasks:
        ours, theirs = _finished(study, task), reference.of(task.env)
        means = {method.name: mean_with_interval(study.scores(task, method)) for method in ours}
        rows = [(s.estimate.value, [s.method, *_cells(s.estimate, s.runs, s.steps), s.env]) for s in theirs]
        for method in ours:
            results = study.results_of(task, method)
            cells = _cells(means[method.name], len(results), max(result.step for result in results))
            rows.append((means[method.name].value, [f"{method.name} (here)", *cells, task.env]))
        rows.sort(key=lambda row: row[0], reverse=True)
        yield Heading(task.env, 3)
        yield Rows(["method", "mean", "95 % interval", "runs", "steps", "environment"], [cells for _, cells in rows])
        verdicts = [
            compared(method.name, means[method.name], score.method, score.estimate)
            for method in ours
            for score in theirs
            if score.method in (method.name, method.algorithm)
        ]
        yield Text(" ".join([f"Rules here: {study.results_of(task, ours[0])[0].rules}.", *verdicts]))
    if not tasks:
        yield Text("It has no score in an environment of this study.")


def _finished(study: Study, task: Task) -> list[Method]:
    """The methods that have results in an environment."""
    return [method for method in task.methods if len(study.scores(task, method))]


def compared(name: str, here: Estimate, other: str, there: Estimate) -> str:
    """A sentence on a score here and a score of others."""
    if not here.has_interval or not there.has_interval:
        whose = "theirs" if here.has_interval else "the score here"
        return f"{name}: not tested, because {whose} has no interval over runs."
    if not separated(here, there):
        return f"{name}: no difference to {other} there is shown, as the intervals overlap."
    return f"{name}: {'higher' if here.value > there.value else 'lower'} than {other} there."


def _methods(study: Study) -> Iterator[Block]:
    yield Heading("Commands")
    yield Text("Every run is one of these commands with another seed and folder.")
    lines = []
    for task in study.suite.tasks:
        for method in task.methods:
            cell = next(one for one in study.cells() if (one.task, one.method) == (task, method))
            words = command_of(cell, study.path)
            lines.append(shlex.join(["asyncrl", *words[: words.index("--run-dir")], *words[-2:]]))
    yield Text("\n".join(lines), code=True)


def _normalized(study: Study, task: Task, name: str) -> np.ndarray:
    method = next(method for method in task.methods if method.name == name)
    return task.normalized(study.scores(task, method))


def _names(task: Task) -> set[str]:
    return {method.name for method in task.methods}


def _figure(svg: str | None, description: str) -> Iterator[Block]:
    if svg is not None:
        yield Figure(svg, description)


def _cells(estimate: Estimate, runs: int, steps: int | None) -> list[str]:
    return [shown(estimate.value), interval(estimate), str(runs), "not given" if steps is None else f"{steps:,}"]


def shown(value: float) -> str:
    """A number with as many decimals as its size asks for."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"


def interval(estimate: Estimate) -> str:
    """The interval of an estimate, or "none"."""
    return f"{shown(estimate.low)} … {shown(estimate.high)}" if estimate.has_interval else "none"


def with_interval(estimate: Estimate) -> str:
    """An estimate and its interval, as 0.93 [0.88, 0.97]."""
    if not estimate.has_interval:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
