"""Records of one kind as columns of numbers, thinned out for drawing."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np

from asyncrl.monitor import Record
from asyncrl.monitor.table import row

__all__ = ["AXES", "Series"]

AXES = ("step", "update", "time")
"""Columns that a curve may be drawn over."""


class Series:
    """The numbers of records of one kind, a column for each field; NaN where a record lacks it.

    Nested tables become columns such as `means/CartPole-v1`, and `iqm_interval` becomes `iqm_low` and `iqm_high`.
    """

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {name: array("d") for name in AXES}
        self.last: Record = {}
        """The newest record."""

    def __len__(self) -> int:
        return len(self.columns["step"])

    def add(self, record: Record) -> None:
        """Add a record."""
        rows = len(self)
        for name, value in _numbers(record).items():
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = array("d", [math.nan]) * rows
            column.append(value)
        for column in self.columns.values():
            if len(column) == rows:
                column.append(math.nan)
        self.last = record

    def halve(self) -> None:
        """Drop every second row."""
        self.columns = {name: column[::2] for name, column in self.columns.items()}

    def known(self, name: str) -> list[float]:
        """The values of a column that are not missing; [] without such a column."""
        return [x for x in self.columns.get(name, ()) if math.isfinite(x)]

    def since(self, start: int) -> dict[str, list[float | None]]:
        """The rows from `start` on, by column; None where a value is missing."""
        return {name: _plain(np.asarray(column[start:])) for name, column in self.columns.items()}

    def every(self, points: int) -> dict[str, list[float | None]]:
        """About `points` rows at equal distances, by column; all of them if there are fewer."""
        distance = max(1, len(self) // points)
        return {name: _plain(np.asarray(column[::distance])) for name, column in self.columns.items()}

    def thinned(self, points: int) -> dict[str, dict[str, list[float | None]]]:
        """At most `points` rows: means of rows that follow one another, with their lowest and highest value.

        Returns "mean", "low" and "high", each by column. With no more rows than `points`, "low" and "high" are empty. The
        columns of `AXES` hold the last row's value.
        """
        rows = len(self)
        if rows <= points:
            return {"mean": self.since(0), "low": {}, "high": {}}
        edges = np.linspace(0, rows, points + 1).astype(int)
        found: dict[str, dict[str, list[float | None]]] = {"mean": {}, "low": {}, "high": {}}
        for name, column in self.columns.items():
            values = np.asarray(column)
            if name in AXES:
                found["mean"][name] = _plain(values[edges[1:] - 1])
                continue
            known = np.isfinite(values)
            counts = np.add.reduceat(known, edges[:-1])
            sums = np.add.reduceat(np.where(known, values, 0.0), edges[:-1])
            found["mean"][name] = _plain(np.divide(sums, counts, out=np.full(points, np.nan), where=counts > 0))
            found["low"][name] = _plain(np.minimum.reduceat(np.where(known, values, np.inf), edges[:-1]))
            found["high"][name] = _plain(np.maximum.reduceat(np.where(known, values, -np.inf), edges[:-1]))
        return found


def _numbers(record: Record) -> dict[str, float]:
    interval = record.get("iqm_interval")
    if isinstance(interval, list) and len(interval) == 2:
        record = {**record, "iqm_low": interval[0], "iqm_high": interval[1]}
    return {name: float(value) for name, value in row(record).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _plain(values: np.ndarray) -> list[float | None]:
    """A list for JSON, with six significant digits at least, None for what is not finite."""
    return [_rounded(x) if math.isfinite(x) else None for x in values.tolist()]


def _rounded(value: float) -> float:
    return round(value, 6) if abs(value) >= 1 else float(f"{value:.6g}")
