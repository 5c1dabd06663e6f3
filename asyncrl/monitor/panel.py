"""The panel that shows a run in a terminal or a notebook."""

from __future__ import annotations

import textwrap
from collections import deque
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncrl.monitor.chart import chart
from asyncrl.monitor.sink import Record

__all__ = ["Progress", "RunPanel"]

_ONE_LINE: Any = dict(no_wrap=True, overflow="ellipsis")
_SPAN = 10.0
"""Seconds over which rates are averaged: single updates come in bursts."""
_CENTURY = 100 * 365.25 * 86_400.0
"""In seconds; a `timedelta` cannot hold every number of them."""
_MAX_POINTS = 2_000
"""Points of a curve that are kept."""
_CHART_ROWS, _VERDICT_ROWS = 6, 3
_WITH_CHART, _WITH_VERDICT = 20, 12
"""Rows that a display needs for the panel to have them."""
_WITH_ALL_NUMBERS = 74
"""Columns that a display needs to have them; on a narrower one they would be cut."""
_TRAINING, _EVALUATION = "cyan", "bold yellow"


class Progress:
    """The newest numbers of a run, from its records."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.train: Record = {}
        self.returns: list[tuple[float, float]] = []
        """(step, mean return) while training"""
        self.evaluations: list[tuple[float, float]] = []
        """(step, mean return) of evaluations"""
        self.verdict = ""
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
                self.returns.append((record["step"], record["mean_return"]))
            if len(self.returns) > _MAX_POINTS:
                del self.returns[::2]
        elif record["kind"] == "eval":
            self.evaluations.append((record["step"], record["mean"]))
        elif record["kind"] in ("stages", "verdict"):
            self.verdict = record["verdict"]
        elif record["kind"] == "rewind":
            self._go_back(record["step"])

    def _go_back(self, step: int) -> None:
        """Forget what came after `step`: training diverged and was rewound to it."""
        self._began = None
        self._recent.clear()
        for points in (self.returns, self.evaluations):
            points[:] = [point for point in points if point[0] <= step]

    @property
    def steps_per_second(self) -> float:
        """Mean rate of the last ten seconds; the last record's own until there are two since the start or a rewind."""
        if self._recent and (seconds := self._recent[-1][1] - self._recent[0][1]) > 0:
            return (self._recent[-1][0] - self._recent[0][0]) / seconds
        return float(self.train["steps_per_second"])

    @property
    def time_left(self) -> str:
        """Remaining time at the mean rate since this view began; "…" if that is not known yet, or a century or more."""
        if self._began is None or self.train["step"] <= self._began[0]:
            return "…"
        step, seconds = self._began
        rate = (self.train["step"] - step) / max(self.train["time"] - seconds, 1e-3)  # the resolution of recorded times
        left = max(0, self.steps - self.train["step"]) / rate
        return str(timedelta(seconds=round(left))) if left < _CENTURY else "…"


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
        if record["kind"] == "rewind":
            kept = [episode for episode in self._last_episodes if episode["step"] <= record["step"]]
            self._last_episodes = deque(kept, self._last_episodes.maxlen)
        self._progress.take(record)
        return True

    def draw(self, width: int, height: int = 24, *, chart: bool = True) -> RenderableType:
        """Return the panel for a display of `width` columns and `height` rows, with a chart if there is room."""
        p, train = self._progress, self._progress.train
        if not train:
            return self._framed(Text(self.status or "waiting for the first rollouts …", **_ONE_LINE))
        bar = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None):
            bar.add_column(ratio=ratio, **_ONE_LINE)
        bar.add_row(f"{train['step']:,} / {p.steps:,}", ProgressBar(p.steps, train["step"]), f"left {p.time_left}")
        inner = max(1, width - len("│  │"))
        curves = self._curves(inner) if chart and height >= _WITH_CHART else []
        verdict = self._verdict(inner) if height >= _WITH_VERDICT else []
        last = Text(self.status, **_ONE_LINE) if self.status else bar
        return self._framed(Group(self._numbers(width), *curves, *verdict, last))

    def _numbers(self, width: int) -> Table:
        """The newest numbers; on a narrow display, those that matter most."""
        p, train = self._progress, self._progress.train
        mean = "–" if train["mean_return"] is None else f"{train['mean_return']:.2f}"
        evaluated = "{1:.2f} at {0:,}".format(*p.evaluations[-1]) if p.evaluations else "–"
        last = ", ".join(f"{e['return']:g}" for e in self._last_episodes)
        queue = "none" if train["queue_fill"] is None else f"{train['queue_fill']:.0%} full"
        frames = p.steps_per_second * train["frames_per_second"] / max(train["steps_per_second"], 1e-9)
        entropy = f"{train['entropy']:.3f}" if "entropy" in train else "–"
        learning = f"{train['learning_share']:.0%} of the time" if "learning_share" in train else "–"
        speed = "steps/s", f"{p.steps_per_second:,.0f}"
        scores = ("mean return", f"{mean} (last 100)"), ("evaluation", evaluated)
        episodes = ("episodes", f"{train['episodes']:,}"), ("last returns", last)
        rows = Table.grid(padding=(0, 2), expand=True)
        if width < _WITH_ALL_NUMBERS:
            rows.add_column(**_ONE_LINE)
            rows.add_column(ratio=1, **_ONE_LINE)
            for pair in (speed, *scores, *episodes):
                rows.add_row(*pair)
            return rows
        lag = "policy lag", f"{train['policy_lag'] or 0:.2f} updates"
        machine = speed, ("frames/s", f"{frames:,.0f}"), lag, ("queue", queue), ("learning", learning)
        for ratio in (None, 2, None, 3):
            rows.add_column(ratio=ratio, **_ONE_LINE)
        for one, other in zip(machine, (*scores, *episodes, ("entropy", entropy)), strict=True):
            rows.add_row(*one, *other)
        return rows

    def _curves(self, width: int) -> list[Text]:
        """The returns while training and those of evaluations, over the steps."""
        p = self._progress
        legend = Text("return  ", **_ONE_LINE)
        legend.append("━ training", style=_TRAINING).append("  ").append("● evaluations", style=_EVALUATION)
        styles: Any = dict(line_style=_TRAINING, mark_style=_EVALUATION)
        return [legend, *chart(p.returns, p.evaluations, width, _CHART_ROWS, **styles)]

    def _verdict(self, width: int) -> list[Text]:
        """The newest verdict, in a fixed number of lines."""
        said = self._progress.verdict or "Measuring where the time goes …"
        lines = textwrap.wrap(said, width, max_lines=_VERDICT_ROWS, placeholder="…")
        return [Text(line, style="bold", **_ONE_LINE) for line in [*lines, *[""] * _VERDICT_ROWS][:_VERDICT_ROWS]]

    def _framed(self, inside: RenderableType) -> Panel:
        return Panel(inside, title=Text(self._title, **_ONE_LINE))
