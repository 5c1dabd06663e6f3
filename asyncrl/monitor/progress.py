"""Progress of a call from Python: in a terminal, in a notebook, or not at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from asyncrl.monitor.notebook import Notebook, in_notebook
from asyncrl.monitor.sink import Sink
from asyncrl.monitor.terminal import live_view

__all__ = ["episode_progress", "training_view"]

_SECONDS = 10.0
"""Time between two lines where no bar can be drawn."""


def training_view(title: str, steps: int, progress: bool | None) -> Sink | None:
    """A view of a training run on standard output.

    Args:
        title: Title of the panel.
        steps: Length of the run.
        progress: Whether to show it; None shows it in a terminal or a notebook.
    """
    notebook = in_notebook()
    if progress is False or (progress is None and not (sys.stdout.isatty() or notebook)):
        return None
    if notebook:
        return Notebook(title, steps)
    return live_view(title, steps)


@contextmanager
def episode_progress(episodes: int, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Show on standard error how many of `episodes` are finished; the block calls the yielded function with the number.

    `progress` says whether to show it; None shows it in a terminal or a notebook.
    """
    if progress is False or (progress is None and not (sys.stderr.isatty() or in_notebook())):
        yield lambda finished: None
    elif sys.stderr.isatty() and (console := Console(stderr=True)).is_interactive:
        columns = TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), TimeRemainingColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=episodes)
            yield lambda finished: bar.update(task, completed=finished)
    else:
        yield _Lines(episodes)


class _Lines:
    """Prints a line every ten seconds."""

    def __init__(self, episodes: int) -> None:
        self._episodes, self._since = episodes, time.monotonic()

    def __call__(self, finished: int) -> None:
        if time.monotonic() - self._since >= _SECONDS:
            self._since = time.monotonic()
            print(f"evaluating: {finished:,} of {self._episodes:,} episodes", file=sys.stderr, flush=True)
