"""The panel that shows a run in a terminal or a notebook."""

from __future__ import annotations

import itertools
from collections import deque
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncrl.monitor.sink import Record

__all__ = ["Progress", "RunPanel", "sparkline"]

_ONE_LINE: Any = dict(no_wrap=True, overflow="ellipsis")
_BARS = "▁▂▃▄▅▆▇█"
_SPAN = 10.0
"""Seconds over which rates are averaged: single updates come in bursts."""


def sparkline(values: list[float], width: int) -> str:
    """A curve as text: at most `width` bars, each the mean of an equal share of `values`."""
    if not values:
        return ""
    cuts = [len(values) * i // min(width, len(values)) for i in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[round((m - low) / span * (len(_BARS) - 1))] for m in means)


class Progress:
    """The newest numbers of a run, from its records."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.train: Record = {}
        self.evaluation: Record = {}
        self.returns: list[float] = []
        self._began: tuple[int, float] | None = None
        self._recent: deque[tuple[int, float]] = deque()

    def take(self, record: Record) -> None:
        if record["kind"] == "train":
            self.train = record
            now = record["step"], record["time"]
            self._began = self._began or now
            self._recent.append(now)
            while len(self._recent) > 2 and now[1] - self._recent[1][1] >= _SPAN:
                self._recent.popleft()
            if record["mean_return"] is not None:
                self.returns.append(record["mean_return"])
        elif record["kind"] == "eval":
            self.evaluation = record

    @property
    def steps_per_second(self) -> float:
        """Mean rate of the last ten seconds."""
        (first, began), (last, now) = self._recent[0], self._recent[-1]
        return (last - first) / (now - began) if now > began else float(self.train["steps_per_second"])

    @property
    def time_left(self) -> str:
        """Remaining time at the mean rate since this view began."""
        if self._began is None or self.train["step"] <= self._began[0]:
            return "…"
        step, seconds = self._began
        rate = (self.train["step"] - step) / max(self.train["time"] - seconds, 1e-3)  # the resolution of recorded times
        return str(timedelta(seconds=round(max(0, self.steps - self.train["step"]) / rate)))


class RunPanel:
    """The newest numbers of a run, drawn as a panel."""

    def __init__(self, title: str, steps: int) -> None:
        self._title = title
        self._progress = Progress(steps)
        self._last_episodes: deque[Record] = deque(maxlen=5)
        self.status = ""
        """What the run does while it does not learn."""

    def take(self, record: Record) -> bool:
        """Take the numbers of a record; return whether they are worth drawing at once."""
        if record["kind"] == "episode":
            self._last_episodes.append(record)
            return False
        self._progress.take(record)
        return True

    def draw(self, width: int) -> RenderableType:
        """Return the panel for a display of `width` columns."""
        p, train = self._progress, self._progress.train
        if not train:
            return self._framed(Text(self.status or "waiting for the first rollouts …", **_ONE_LINE))
        mean = "–" if train["mean_return"] is None else f"{train['mean_return']:.2f}"
        evaluated = f"{p.evaluation['mean']:.2f} at {p.evaluation['step']:,}" if p.evaluation else "–"
        last = ", ".join(f"{e['return']:g}" for e in self._last_episodes)
        queue = "none" if train["queue_fill"] is None else f"{train['queue_fill']:.0%} full"
        frames = p.steps_per_second * train["frames_per_second"] / max(train["steps_per_second"], 1e-9)
        rows = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 2, None, 3):
            rows.add_column(ratio=ratio, **_ONE_LINE)
        rows.add_row("steps/s", f"{p.steps_per_second:,.0f}", "mean return", f"{mean} (last 100)")
        rows.add_row("frames/s", f"{frames:,.0f}", "evaluation", evaluated)
        rows.add_row("policy lag", f"{train['policy_lag'] or 0:.2f} updates", "episodes", f"{train['episodes']:,}")
        rows.add_row("queue", queue, "last returns", last)
        entropy = f"{train['entropy']:.3f}" if "entropy" in train else "–"
        rows.add_row("learner idle", f"{train.get('waiting_share', 0.0):.0%} of the time", "entropy", entropy)
        bar = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None):
            bar.add_column(ratio=ratio, **_ONE_LINE)
        bar.add_row(f"{train['step']:,} / {p.steps:,}", ProgressBar(p.steps, train["step"]), f"left {p.time_left}")
        curve_width = max(1, min(60, width - len("│ return  │")))
        curve = Text(f"return {sparkline(p.returns, curve_width)}", **_ONE_LINE)
        return self._framed(Group(rows, curve, Text(self.status, **_ONE_LINE) if self.status else bar))

    def _framed(self, inside: RenderableType) -> Panel:
        return Panel(inside, title=Text(self._title, **_ONE_LINE))
