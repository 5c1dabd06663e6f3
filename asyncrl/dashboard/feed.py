"""What a page gets: everything at first, then what is new."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from asyncrl.common.serialization import json_text
from asyncrl.dashboard.watched import WatchedRun, WatchedRuns
from asyncrl.runs.metrics.follower import MetricsFollower

__all__ = ["Feed", "curves", "encoded", "episodes"]

POINTS = 600
"""Points of a curve, at most, when it is sent as a whole."""
_APPENDED = 1000
"""Rows that are appended before the curves are sent as a whole again, thinned out."""
_KINDS = ("train", "eval", "stages")
"""Kinds of records that become curves."""
_READING_SECONDS = 1.0
"""Time between two views of the curves while a long file is being read."""
_SEARCH_SECONDS = 3.0
"""Time between two searches for new runs."""


def curves(run: WatchedRun, points: int = POINTS) -> dict[str, Any]:
    """The curves of a run so far, by kind of record, and how much of the file has been read."""
    with run.lock:
        return _whole(run.metrics, points)


def _whole(metrics: MetricsFollower, points: int = POINTS) -> dict[str, Any]:
    """As `curves`, for a caller that holds the run's lock."""
    return {
        "read": 1.0 if not metrics.size else round(metrics.position / metrics.size, 4),
        "kinds": {kind: metrics.series[kind].thinned(points) for kind in _KINDS if kind in metrics.series},
        "episodes": {"mean": metrics.sample.every(4 * points), "low": {}, "high": {}},
    }


def episodes(run: WatchedRun) -> dict[str, Any]:
    """The best, worst and newest episodes, and how many episodes they were chosen from."""
    with run.lock:
        ranking = run.metrics.ranking
        latest = list(reversed(run.metrics.latest))
        return {"best": ranking.best, "worst": ranking.worst, "latest": latest, "episodes": ranking.episodes}


def notes(run: WatchedRun) -> dict[str, Any]:
    """The newest records by kind, and the best mean return of an evaluation and their number."""
    with run.lock:
        series = run.metrics.series
        means = series["eval"].known("mean") if "eval" in series else []
        return {
            "newest": {kind: series[kind].last for kind in series},
            "evaluations": {"best": max(means, default=None), "count": len(means)},
        }


def encoded(value: Any) -> str:
    """Compact JSON, in which numbers that are not finite are null."""
    return json_text(value, separators=(",", ":"))


class Feed:
    """The messages of one page, which shows some of the runs."""

    def __init__(self, runs: WatchedRuns, shown: Sequence[str]) -> None:
        self._runs = runs
        self._shown = [_Shown(run) for number in dict.fromkeys(shown) if (run := runs.get(number)) is not None]
        self._sent: Any = None
        self._searched = -math.inf

    def messages(self) -> Iterator[dict[str, Any]]:
        """What is new since the last call."""
        if time.monotonic() - self._searched >= _SEARCH_SECONDS:
            self._searched = time.monotonic()
            self._runs.refresh()
        listed = {"runs": [run.summary() for run in self._runs], "note": self._runs.note}
        if listed != self._sent:
            self._sent = listed
            yield listed
        for shown in self._shown:
            for name, value in shown.news():
                yield {"id": shown.run.id, name: value}

    @property
    def is_behind(self) -> bool:
        """Whether a file is still being read."""
        return any(shown.run.metrics.is_behind for shown in self._shown)


class _Shown:
    """What a page has of one run."""

    def __init__(self, run: WatchedRun) -> None:
        self.run = run
        self._generation = -1
        self._rows: dict[str, int] = {}
        self._appended = 0
        self._sent: dict[str, Any] = {}
        self._due = -math.inf
        """When the curves of a file that is still being read are sent again."""

    def news(self) -> Iterator[tuple[str, Any]]:
        self.run.read(_READING_SECONDS / 2)
        is_read = not self.run.metrics.has_unread
        if not is_read and time.monotonic() < self._due:
            return
        for name, value in (("facts", self.run.facts()), ("notes", notes(self.run)), ("episodes", episodes(self.run))):
            if self._sent.get(name) != value:
                self._sent[name] = value
                yield name, value
        whole = not is_read or self._due > -math.inf
        self._due = -math.inf if is_read else time.monotonic() + _READING_SECONDS
        yield from self._curves(whole=whole)

    def _curves(self, *, whole: bool) -> Iterator[tuple[str, Any]]:
        """The whole curves, or the rows that this page does not have; another page may have had them read."""
        metrics = self.run.metrics
        with self.run.lock:
            tables = {kind: metrics.series[kind] for kind in _KINDS if kind in metrics.series} | {"episode": metrics.sample}
            new = {kind: len(table) - self._rows.get(kind, 0) for kind, table in tables.items()}
            self._rows = {kind: len(table) for kind, table in tables.items()}
            self._appended += sum(new.values())
            fits = min(new.values()) >= 0 and self._appended <= _APPENDED  # a sample that was halved is sent as a whole
            appends = fits and not whole and self._generation == metrics.generation
            if appends:
                rows = {kind: tables[kind].since(len(tables[kind]) - n) for kind, n in new.items() if n}
                news: list[tuple[str, Any]] = [("rows", rows)] if rows else []
            else:
                self._generation, self._appended = metrics.generation, 0
                news = [("curves", _whole(metrics))]
        yield from news
