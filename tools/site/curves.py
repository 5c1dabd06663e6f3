"""Learning curves as inline SVG, whose colours follow the page's light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 68, 16, 12, 44
_MOST_POINTS = 240

Points = Sequence[tuple[float, float]]


def drawing(title: str, lines: Mapping[str, Points], dots: Mapping[str, Points]) -> str:
    """A figure with a line of (step, return) per name, and dots for its evaluations. `title` is its caption."""
    x_ticks = ticks(0, max(points[-1][0] for points in lines.values()))
    values = [value for points in [*lines.values(), *dots.values()] for _, value in points]
    y_ticks = ticks(min(values), max(values))

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / x_ticks[-1]
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return x, y

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" class="curve">']
    for value in y_ticks:
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for step in x_ticks:
        x, _ = place(step, y_ticks[0])
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(step)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">environment steps</text>')
    parts.append(
        f'<text transform="translate(12 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)" text-anchor="middle">return</text>'
    )
    for number, points in enumerate(lines.values()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in thinned(points)))
        parts.append(f'<polyline class="line line-{number}" points="{path}"/>')
    for number, points in enumerate(dots.values()):
        for x, y in (place(*point) for point in points):
            parts.append(f'<circle class="dot-{number}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    parts.append("</svg>")
    names = ""
    if len(lines) > 1:
        keys = (f'<span class="key key-{number}">{name}</span>' for number, name in enumerate(lines))
        names = f'<div class="keys">{"".join(keys)}</div>'
    return f"<figure>{''.join(parts)}{names}<figcaption>{title}</figcaption></figure>"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that span `low` to `high`."""
    gap = (high - low or 1.0) / count
    magnitude = 10 ** math.floor(math.log10(gap))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= gap)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def thinned(points: Points) -> Points:
    """Every k-th point, and the last."""
    every = max(1, len(points) // _MOST_POINTS)
    return [*points[:-1:every], points[-1]]


def short(number: float) -> str:
    """A number of steps as 200 k or 1.5 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:g} {unit}"
    return f"{number:g}"
