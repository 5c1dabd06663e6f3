"""The results of a study in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from asyncrl.cli.options import relative
from asyncrl.common.counting import counted
from asyncrl.plots.document import Rows
from asyncrl.studies.ranking import ranking
from asyncrl.studies.report import summary_table
from asyncrl.studies.study import Study

__all__ = ["study_lines"]

_COLUMNS = ("method", "mean", "95 % interval", "IQM", "runs", "time per run")
"""Columns that fit into 80 characters."""


def study_lines(study: Study) -> Iterator[str]:
    """A table and a ranking for each environment, and where the report is; nothing without results."""
    for task in study.suite.tasks:
        found = {method.name: study.scores(task, method) for method in task.methods}
        found = {name: scores for name, scores in found.items() if len(scores)}
        if found:
            yield ""
            yield f"{task.env}, mean return over {counted(study.suite.episodes, 'episode')} per run"
            yield from _aligned(summary_table(study, task))
            if len(task.methods) > 1:
                yield ranking(found)
    if study.results:
        yield ""
        yield f"report: {relative(study.path)}/report.md and report.html"


def _aligned(table: Rows) -> Iterator[str]:
    chosen = [table.header.index(name) for name in _COLUMNS]
    cells = [[row[i] for i in chosen] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, *numbers in cells:
        yield "  ".join(
            [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
        )
