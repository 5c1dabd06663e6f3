"""A run as a person watches it: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncrl.monitor.sink import Sink
from asyncrl.statistics import Record

__all__ = ["Live", "Plain", "Quiet", "sparkline", "terminal_view"]

_BARS = "▁▂▃▄▅▆▇█"
_SPAN = 10.0
"""Seconds over which a rate is taken: single updates come in bursts."""


def terminal_view(title: str, steps: int, *, quiet: bool) -> Sink:
    """The view that fits standard output."""
    if quiet:
        return Quiet()
    return Live(title, steps) if sys.stdout.isatty() else Plain(steps)


def sparkline(values: list[float], width: int) -> str:
    """A curve as text: `width` bars, each the mean of its part of `values`."""
    if not values:
        return ""
    cuts = [len(values) * i // min(width, len(values)) for i in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[round((m - low) / span * (len(_BARS) - 1))] for m in means)


class _Progress:
    """What both views show."""

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
        """Of the last ten seconds."""
        (first, began), (last, now) = self._recent[0], self._recent[-1]
        return (last - first) / (now - began) if now > began else float(self.train["steps_per_second"])

    @property
    def time_left(self) -> str:
        """At the mean rate since this view began."""
        if self._began is None or self.train["step"] <= self._began[0]:
            return "…"
        step, seconds = self._began
        rate = (self.train["step"] - step) / max(self.train["time"] - seconds, 1e-3)  # as fine as time is recorded
        return str(timedelta(seconds=round(max(0, self.steps - self.train["step"]) / rate)))


class Plain:
    """One line a record, at most one in ten seconds."""

    def __init__(self, steps: int) -> None:
        self._progress = _Progress(steps)
        self._spoke = -1e9

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

    def close(self) -> None:
        pass


class Quiet:
    """Says nothing."""

    def write(self, record: Record) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class Live:
    """A panel that is drawn anew with every record; sentences scroll by above it."""

    def __init__(self, title: str, steps: int, console: Console | None = None) -> None:
        self._title = title
        self._progress = _Progress(steps)
        self._last_episodes: deque[Record] = deque(maxlen=5)
        self._console = console or Console()
        self._live: RichLive | None = None

    def write(self, record: Record) -> None:
        if record["kind"] == "episode":
            self._last_episodes.append(record)
            return
        self._progress.take(record)
        if self._live is None:
            self._live = RichLive(self._view(), console=self._console, refresh_per_second=4)
            self._live.start()
        self._live.update(self._view())

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _view(self) -> RenderableType:
        p, train = self._progress, self._progress.train
        if not train:
            return Panel(Text("waiting for the first rollouts …"), title=self._title)
        rows = Table.grid(padding=(0, 2))
        for _ in range(4):
            rows.add_column()
        mean = "–" if train["mean_return"] is None else f"{train['mean_return']:.2f}"
        best = f"{p.evaluation['mean']:.2f} at {p.evaluation['step']:,}" if p.evaluation else "–"
        last = ", ".join(f"{e['return']:g}" for e in self._last_episodes)
        waiting = train.get("waiting_share", 0.0)
        queue = "none" if train["queue_fill"] is None else f"{train['queue_fill']:.0%} full"
        frames = p.steps_per_second * train["frames_per_second"] / max(train["steps_per_second"], 1e-9)
        rows.add_row("steps/s", f"{p.steps_per_second:,.0f}", "mean return (100 episodes)", mean)
        rows.add_row("frames/s", f"{frames:,.0f}", "last evaluation", best)
        rows.add_row("policy lag", f"{train['policy_lag'] or 0:.2f} updates", "episodes", f"{train['episodes']:,}")
        rows.add_row("queue", queue, "last returns", last)
        rows.add_row("learner waits", f"{waiting:.0%} of the time", "entropy", f"{train.get('entropy', float('nan')):.3f}")
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column()
        bar.add_column(ratio=1)
        bar.add_column()
        bar.add_row(f"{train['step']:,} / {p.steps:,}", ProgressBar(p.steps, train["step"]), f"left {p.time_left}")
        curve = Text(f"return {sparkline(p.returns, 60)}")
        return Panel(Group(rows, curve, bar), title=self._title)
