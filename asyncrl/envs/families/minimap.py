"""Draws football's minimap: the pitch from above."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Minimap", "ball_of"]

HEIGHT = 72
WIDTH = 96
"""Size of a minimap, in cells."""
LEFT, RIGHT, BALL, ACTIVE = range(4)
"""Planes of a minimap."""
_CELL = 8  # pixels
_FINE = 2  # drawn larger by this factor and then reduced, for smooth edges
_UNIT_X, _UNIT_Y = (WIDTH - 1) / 2, (HEIGHT - 1) / 2 * 2.25
"""Cells per unit of the engine, where goals are at x = ±1 and side lines at y = ±0.42."""
_GREENS, _LINE = ((46, 125, 50), (56, 142, 60)), (225, 240, 225)
_BLUE, _RED, _WHITE, _YELLOW, _BLACK = (33, 90, 220), (214, 40, 40), (255, 255, 255), (255, 214, 0), (20, 20, 20)


class Minimap:
    """Draws minimaps: left team blue, right team red, ball white, a yellow ring around the active player."""

    def __init__(self) -> None:
        self._pitch = _pitch()

    def draw(self, planes: np.ndarray, *texts: str) -> np.ndarray:
        """Draw one minimap [72, 96, 4] as a picture [576, 768, 3] uint8, with `texts` along its top."""
        from PIL import Image, ImageDraw, ImageFont

        image = self._pitch.copy()
        pencil = ImageDraw.Draw(image)
        for plane, colour in ((LEFT, _BLUE), (RIGHT, _RED)):
            for row, column in np.argwhere(planes[..., plane]):
                _disc(pencil, row, column, 1.0, fill=colour, outline=_WHITE, width=_FINE)
        for row, column in np.argwhere(planes[..., ACTIVE]):
            _disc(pencil, row, column, 1.45, outline=_YELLOW, width=3 * _FINE)
        for row, column in np.argwhere(planes[..., BALL]):
            _disc(pencil, row, column, 0.6, fill=_WHITE, outline=_BLACK, width=_FINE)
        font = ImageFont.load_default(size=2.4 * _CELL * _FINE)
        for index, text in enumerate(texts):
            across = 2 + index * (WIDTH - 4) / max(1, len(texts) - 1)
            anchor = "la" if index == 0 else "ra"
            pencil.text(
                _pixel(0.6, across), text, fill=_WHITE, font=font, anchor=anchor, stroke_width=_FINE, stroke_fill=_BLACK
            )
        return np.asarray(image.resize((WIDTH * _CELL, HEIGHT * _CELL), Image.Resampling.LANCZOS), dtype=np.uint8)


def ball_of(planes: np.ndarray) -> np.ndarray:
    """Return the ball's x and y, [B, 2], in the engine's units, on minimaps [B, 72, 96, 4]."""
    row, column = np.divmod(planes[..., BALL].reshape(len(planes), -1).argmax(1), WIDTH)
    return np.stack([(column - (WIDTH - 1) / 2) / _UNIT_X, (row - (HEIGHT - 1) / 2) / _UNIT_Y], 1)


def _pitch() -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH * _CELL * _FINE, HEIGHT * _CELL * _FINE), _GREENS[0])
    pencil, stripe = ImageDraw.Draw(image), image.width // 12
    for n in range(1, 12, 2):
        pencil.rectangle((n * stripe, 0, (n + 1) * stripe, image.height), fill=_GREENS[1])
    for x, y in ((1.0, 0.42), (0.0, 0.42)):  # the pitch and its halves
        pencil.rectangle((*_point(-1, -y), *_point(x, y)), outline=_LINE, width=2 * _FINE)
    for side in (-1, 1):
        for depth, half in ((0.30, 0.236), (0.10, 0.107)):  # the penalty area and the goal area
            inner, outer = sorted((side, side * (1 - depth)))
            pencil.rectangle((*_point(inner, -half), *_point(outer, half)), outline=_LINE, width=2 * _FINE)
        pencil.line((_point(side, -0.044), _point(side, 0.044)), fill=_WHITE, width=10 * _FINE)  # the goal
    for radius in (0.166, 0.012):  # the centre
        (left, top), (right, bottom) = _point(-radius, -radius * 0.45), _point(radius, radius * 0.45)
        pencil.ellipse((left, top, right, bottom), outline=_LINE, width=2 * _FINE)
    return image


def _point(x: float, y: float) -> tuple[float, float]:
    """Return the pixel, across and down, of a point in the engine's units."""
    return _pixel((HEIGHT - 1) / 2 + y * _UNIT_Y, (WIDTH - 1) / 2 + x * _UNIT_X)


def _pixel(row: float, column: float) -> tuple[float, float]:
    """Return the pixel, across and down, of the centre of a cell."""
    return (column + 0.5) * _CELL * _FINE, (row + 0.5) * _CELL * _FINE


def _disc(pencil: Any, row: int, column: int, radius: float, **style: Any) -> None:
    (x, y), r = _pixel(row, column), radius * _CELL * _FINE
    pencil.ellipse((x - r, y - r, x + r, y + r), **style)
