"""Views of a run: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from datetime import timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncrl.monitor.sink import Record, Sink

__all__ = ["Live", "Plain", "Quiet", "sparkline", "terminal_view"]

_ONE_LINE: Any = dict(no_wrap=True, overflow="ellipsis")
_BARS = "▁▂▃▄▅▆▇█"
_SPAN = 10.0
"""Seconds over which rates are averaged: single updates come in bursts."""


def terminal_view(title: str, steps: int, *, quiet: bool) -> Sink:
    """The view for standard output."""
    if quiet:
        return Quiet()
    return Live(title, steps) if sys.stdout.isatty() else Plain(steps)


def sparkline(values: list[float], width: int) -> str:
    """A curve as text: at most `width` bars, each the mean of an equal share of `values`."""
    if not values:
        return ""
    cuts = [len(values) * i // min(width, len(values)) for i in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[round((m - low) / span * (len(_BARS) - 1))] for m in means)


class _Progress:
    """The numbers that both views show."""

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


class Plain:
    """Prints a line per record, at most one in ten seconds."""

    def __init__(self, steps: int) -> None:
        self._progress = _Progress(steps)
        self._spoke = -1e9
        self._since: float | None = None

    def write(self, record: Record) -> None:
        self._progress.take(record)
        if record["kind"] == "eval":
            measures = "".join(f", {name} {mean:.4g}" for name, mean in record.get("measures", {}).items())
            print(
                f"evaluation at step {record['step']:,} ({record['mode']}): mean {record['mean']:.2f}, "
                f"median {record['median']:.2f}, IQM {record['iqm']:.2f}{measures} over {record['episodes']} episodes",
                flush=True,
            )
        last = record["step"] >= self._progress.steps
        if record["kind"] == "train" and (last or record["time"] - self._spoke >= 10):
            self._spoke = record["time"]
            score = "–" if record["mean_return"] is None else f"{record['mean_return']:.2f}"
            print(
                f"step {record['step']:>12,} / {self._progress.steps:,}  {self._progress.steps_per_second:>9,.0f} steps/s  "
                f"return {score:>8}  episodes {record['episodes']:>6,}  lag {record['policy_lag'] or 0:.2f}  "
                f"left {self._progress.time_left}",
                flush=True,
            )

    def say(self, line: str) -> None:
        print(line, flush=True)

    def status(self, text: str) -> None:
        """Print a line every ten seconds."""
        now = time.monotonic()
        self._since = now if not text or self._since is None else self._since
        if text and now - self._since >= 10:
            self._since = now
            print(text, flush=True)
        if not text:
            self._since = None

    def close(self) -> None:
        pass


class Quiet:
    """Prints nothing."""

    def write(self, record: Record) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class Live:
    """A panel, redrawn with every record; messages scroll above it."""

    def __init__(self, title: str, steps: int, console: Console | None = None) -> None:
        self._title = title
        self._progress = _Progress(steps)
        self._last_episodes: deque[Record] = deque(maxlen=5)
        self._status = ""
        self._console = console or Console()
        self._live: RichLive | None = None

    def write(self, record: Record) -> None:
        if record["kind"] == "episode":
            self._last_episodes.append(record)
            return
        self._progress.take(record)
        self._show()

    def status(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self._show()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None  # a run that rewinds opens a new panel

    def _show(self) -> None:
        if self._live is None:
            self._live = RichLive(self._view(), console=self._console, refresh_per_second=4)
            self._live.start()
        self._live.update(self._view())

    def _view(self) -> RenderableType:
        p, train = self._progress, self._progress.train
        if not train:
            return self._panel(Text(self._status or "waiting for the first rollouts …", **_ONE_LINE))
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
        width = max(1, min(60, self._console.width - len("│ return  │")))
        curve = Text(f"return {sparkline(p.returns, width)}", **_ONE_LINE)
        return self._panel(Group(rows, curve, Text(self._status, **_ONE_LINE) if self._status else bar))

    def _panel(self, inside: RenderableType) -> Panel:
        return Panel(inside, title=Text(self._title, **_ONE_LINE))
