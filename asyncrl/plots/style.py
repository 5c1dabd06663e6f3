"""How the plots look: colours, axes, numbers, labels. Nothing here changes matplotlib's global settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from asyncrl.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "INK",
    "MUTED",
    "Label",
    "colour",
    "dress",
    "label_lines",
    "large_numbers",
    "legend",
    "line_style",
    "new_figure",
    "note",
    "panel_axes",
    "panel_grid",
    "short_number",
]

INK, MUTED, GRID = "#1a1a1a", "#666666", "#e4e4e4"
SMALL, NORMAL = 8, 9
"""Sizes of text in points."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008), without yellow: it is too faint on white."""
_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


class Label(NamedTuple):
    """The text at the end of a line."""

    x: float
    y: float
    text: str
    colour: str


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches. Raises UsageError if matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("plots need matplotlib, which is not installed: pip install 'asyncrl[plot]'") from None
    figure = Figure(figsize=(width, height), dpi=200, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def colour(index: int) -> str:
    """The colour of the line number `index`."""
    return _COLOURS[index % len(_COLOURS)]


def line_style(index: int) -> Literal["-", "--", ":", "-."]:
    """The dashes of the line number `index`: they change when the colours begin again."""
    return _STYLES[index // len(_COLOURS) % len(_STYLES)]


def panel_grid(count: int) -> tuple[int, int]:
    """Rows and columns of `count` panels."""
    columns = min(count, 3) if count != 4 else 2
    return -(-count // columns), columns


def panel_axes(figure: Any, count: int) -> list[Axes]:
    """`count` axes in a grid; those that are left over in its last row are hidden."""
    found = list(figure.subplots(*panel_grid(count), squeeze=False).flat)
    for axes in found[count:]:
        axes.set_visible(False)
    return found[:count]


def dress(axes: Axes, *, title: str = "", x: str = "", y: str = "", grid: str = "y") -> None:
    """Title, labels, faint grid lines, and spines on two sides only."""
    axes.set_title(title, loc="left", fontsize=NORMAL, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel(x, fontsize=NORMAL, color=INK, parse_math=False)
    axes.set_ylabel(y, fontsize=NORMAL, color=INK, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=MUTED, linewidth=0.6)
    axes.tick_params(labelsize=SMALL, color=MUTED, labelcolor=INK, width=0.6, length=3)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.6)  # type: ignore[arg-type]


def large_numbers(axes: Axes, which: str) -> None:
    """Write the ticks of the axis `which` as 500 k and 1 M, at most six of them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def short_number(value: float) -> str:
    """A round number in few characters: 1_500_000 is 1.5 M, 20_000 is 20 k, 500 is 500."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= factor * (10 if factor == 1e3 else 1):
            return f"{value / factor:.6g}{unit}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def label_lines(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each label to the right of the axes, at the height of its line's end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    points = axes.get_window_extent().height / axes.figure.dpi * 72
    least = (high - low) * SMALL * 1.35 / max(points, 1)
    ordered = sorted(labels, key=lambda label: label.y)
    for label, y in zip(ordered, _apart([label.y for label in ordered], least, low, high), strict=True):
        axes.annotate(
            label.text,
            xy=(1, label.y),
            xytext=(1.02, y),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=label.colour,
            fontsize=SMALL,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )


def _apart(heights: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Rising heights moved so that neighbours are `least` apart, as little as possible, within the axes if they fit."""
    placed = [*np.clip(heights, low, high)]
    for _ in range(100):
        moved = False
        for i in range(len(placed) - 1):
            gap = least - (placed[i + 1] - placed[i])
            if gap > least * 1e-3:
                placed[i], placed[i + 1], moved = placed[i] - gap / 2, placed[i + 1] + gap / 2, True
        if not moved:
            break
    return [float(y) for y in placed]


def legend(figure: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend above all panels, in as many columns as fit."""
    columns = max(1, min(len(labels), int(figure.bbox.width / figure.dpi / (0.5 + 0.075 * max(map(len, labels))))))
    drawn = figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=SMALL, handlelength=1.6
    )
    for text in drawn.get_texts():
        text.set(color=INK, parse_math=False)


def note(figure: Any, text: str) -> None:
    """A line below all panels that says what is drawn."""
    figure.supxlabel(text, fontsize=SMALL - 0.5, color=MUTED, x=0.01, ha="left")
