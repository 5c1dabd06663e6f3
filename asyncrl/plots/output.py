"""Writes figures: PNG, SVG, PDF, and HTML in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from asyncrl.common.serialization import write_atomically
from asyncrl.errors import UsageError
from asyncrl.plots.document import Block, Figure, Heading, svg_of, to_html
from asyncrl.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["SUFFIXES", "check_output", "write"]

SUFFIXES = (".png", ".svg", ".pdf", ".html")


class _Picture(Protocol):
    """A part of a figure, as in `figures`."""

    @property
    def title(self) -> str: ...
    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...
    def draw(self, figure: Any, /) -> None: ...


def check_output(path: Path) -> Path:
    """Return the absolute path of a file to write. Raises UsageError for a suffix that is not supported."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {path}: the file must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")
    return path.absolute()


def write(pictures: Sequence[_Picture], figure: Drawing, path: Path) -> None:
    """Write a figure; an HTML page has each of its pictures as a separate SVG."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        title = ", ".join(picture.title for picture in pictures) if len(pictures) < 3 else "Training runs"
        blocks: list[Block] = [Heading(title, level=1)]
        for picture in pictures:
            blocks += [Heading(picture.title), Figure(_svg(picture), picture.title)]
        write_atomically(path, to_html(title, blocks))
        return
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    content = io.BytesIO()
    figure.savefig(content, format=suffix[1:], metadata=undated)
    write_atomically(path, content.getvalue())


def _svg(picture: _Picture) -> str:
    figure = new_figure(picture.width, picture.height)
    picture.draw(figure)
    return svg_of(figure)
