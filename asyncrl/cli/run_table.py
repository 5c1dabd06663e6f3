"""Runs as a table that fits into a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asyncrl.common.serialization import json_text
from asyncrl.runs.overview import RunOverview

__all__ = ["run_json", "run_table"]

_HEADER = ("run", "algorithm", "environment", "steps", "best", "last", "state", "age")
_FLEXIBLE = (0, 1, 2)
"""Columns that are cut where the terminal is narrow: the beginning of names, the end of the others."""
_LEAST = 8
"""Characters that a cut column keeps."""


def run_table(runs: Sequence[RunOverview], folder: Path) -> Iterator[str]:
    """A line for each run. Scores are mean returns of evaluations, or of training in runs without evaluations."""
    rows = [_HEADER, *(_row(run, folder) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
    while excess > 0:
        widest = max(_FLEXIBLE, key=lambda i: widths[i])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
        excess -= 1
    for row in rows:
        cells = [_fitted(cell, widths[i], from_left=i == 0) for i, cell in enumerate(row)]
        sides = [
            cell.rjust(width) if 3 <= i <= 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield "  ".join(sides).rstrip()


def run_json(runs: Mapping[str, RunOverview]) -> str:
    """One JSON array with an object for each run; `runs` are given by their paths or URLs."""
    facts = [
        {**vars(run), "path": place, "state": run.state.value, "age": round(run.age, 1)} for place, run in runs.items()
    ]
    return json_text(facts)


def _row(run: RunOverview, folder: Path) -> tuple[str, ...]:
    name = str(run.path.relative_to(folder)) if run.path != folder else run.path.name
    of = "" if run.steps is None else f"/{_count(run.steps)}"
    scores = (_score(value) for value in (run.best, run.last))
    return (
        _printable(name),
        _printable(run.algorithm),
        _printable(run.env),
        _count(run.step) + of,
        *scores,
        run.state.value,
        _age(run.age),
    )


def _fitted(cell: str, width: int, *, from_left: bool) -> str:
    if len(cell) <= width:
        return cell
    return f"…{cell[1 - width :]}" if from_left else f"{cell[: width - 1]}…"


def _count(number: int) -> str:
    """A number of steps in few characters: 1,500,000 is 1.5M."""
    for factor, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 0.9995 * factor:  # which is rounded up
            return f"{number / factor:.3g}{unit}"
    return str(number)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.1f}"


def _age(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _printable(text: str) -> str:
    """The text without control characters: a run folder may come from another user."""
    return "".join(character if character.isprintable() else "?" for character in text)
