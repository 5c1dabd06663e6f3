"""A chart of returns over steps, drawn with Braille patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

__all__ = ["Points", "chart", "short"]

Points = Sequence[tuple[float, float]]
"""(step, value) in the order of the steps."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille pattern by row and column of its dots."""
_BLANK = 0x2800
_LABELS = 8
"""Columns of the labels at the left."""


def chart(line: Points, marks: Points, width: int, height: int, *, line_style: str, mark_style: str) -> list[Text]:
    """`line` as a curve and `marks` as dots, in `height` rows and one more for the steps, each `width` columns wide.

    The value axis is labelled at the top, in the middle and at the bottom.
    """
    values = [value for _, value in (*line, *marks) if math.isfinite(value)]
    steps = [step for step, _ in (*line, *marks)]
    low, high = _padded(min(values, default=0.0), max(values, default=1.0))
    first, last = min(steps, default=0.0), max(steps, default=1.0)
    first = 0.0 if first < 0.1 * last else first  # of a resumed run, only the part that is shown
    columns = max(1, width - _LABELS - 1)
    plane = _Plane(first, max(last, first + 1), low, high, columns, height)
    patterns, marked = plane.curve(line), plane.cells(marks)
    labels = {0: high, height // 2: high - (high - low) * (height // 2) / max(1, height - 1), height - 1: low}
    rows = []
    for row in range(height):
        label = short(labels[row]) if row in labels else ""
        text = Text(f"{label:>{_LABELS}}{'┤' if label else '│'}", no_wrap=True, overflow="crop")
        for column in range(columns):
            if (row, column) in marked:
                text.append("●", style=mark_style)
            else:
                text.append(chr(_BLANK + patterns[row][column]), style=line_style)
        rows.append(text)
    return [*rows, Text(" " * (_LABELS + 1) + _axis(plane.first, plane.last, columns), no_wrap=True, overflow="crop")]


def short(value: float) -> str:
    """A number in at most eight characters: 12.5, 1,200, 1.5M."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}"
    for size, unit in ((0.9995e9, "G"), (0.9995e6, "M"), (1e4, "k")):  # three digits of a smaller one are rounded up
        if abs(value) >= size:
            scaled = value / {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{scaled:.3g}{unit}" if abs(scaled) < 1000 else f"{scaled:.0e}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class _Plane:
    """Maps steps and values to the dots of a canvas of `columns` × `height` characters."""

    def __init__(self, first: float, last: float, low: float, high: float, columns: int, height: int) -> None:
        self.first, self.last = first, last
        self._low, self._high = low, high
        self._columns, self._height = columns, height

    def curve(self, points: Points) -> list[list[int]]:
        """The bits of each character for a curve through `points`, whose mean is taken in each column of dots."""
        sums: dict[int, tuple[float, int]] = {}
        for step, value in points:
            if math.isfinite(value):
                total, count = sums.get(x := self._place(step, 2 * self._columns), (0.0, 0))
                sums[x] = total + value, count + 1
        bits = [[0] * self._columns for _ in range(self._height)]
        before: tuple[int, int] | None = None
        for x, (total, count) in sorted(sums.items()):
            y = self._row(total / count, 4 * self._height)
            for at, dot in _between(before or (x, y), (x, y)):
                bits[dot // 4][at // 2] |= _DOTS[dot % 4][at % 2]
            before = x, y
        return bits

    def cells(self, points: Points) -> set[tuple[int, int]]:
        """The (row, column) of the characters at `points`."""
        return {
            (self._row(value, self._height), self._place(step, self._columns))
            for step, value in points
            if math.isfinite(value)
        }

    def _place(self, step: float, count: int) -> int:
        return min(count - 1, int((step - self.first) / (self.last - self.first) * count))

    def _row(self, value: float, count: int) -> int:
        return round((self._high - value) / (self._high - self._low) * (count - 1))


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, `end` included."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(x0 + round((x1 - x0) * i / count), y0 + round((y1 - y0) * i / count)) for i in range(count + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    margin = max(abs(high), 1.0) * 0.01
    return (low, high) if high - low > 1e-9 * max(1.0, abs(high)) else (low - margin, high + margin)


def _axis(first: float, last: float, columns: int) -> str:
    """Labels of the steps below the first, the middle and the last column."""
    start, middle, end = short(first), short((first + last) / 2), f"{short(last)} steps"
    gap = columns // 2 - len(start) - len(middle) // 2
    text = f"{start}{' ' * gap}{middle}"
    if gap < 2 or columns - len(text) < len(end) + 2:
        text = start if columns > len(start) + len(end) else ""
    return text + end.rjust(columns - len(text))[: columns - len(text)]
