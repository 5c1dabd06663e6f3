"""Writes figures: PNG, SVG, PDF, and HTML in one file."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from asyncrl.common.serialization import write_atomically
from asyncrl.errors import UsageError, suggestions
from asyncrl.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "check_output", "write"]

SUFFIXES = (".png", ".svg", ".pdf", ".html")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 62rem;
  color: #1a1a1a; background: #fafafa }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem }}
figure {{ margin: 0; padding: .75rem; background: #fff; border: 1px solid #ddd; border-radius: 6px; overflow-x: auto }}
svg {{ display: block; max-width: 100%; height: auto }}
@media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #16181c }} figure {{ border-color: #444 }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{sections}
</body>
</html>
"""


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
        near = suggestions(path.suffix, SUFFIXES) if path.suffix else ""
        raise UsageError(f"--out {path}: the file must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}{near}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")
    return path.absolute()


def write(pictures: Sequence[_Picture], figure: Figure, path: Path) -> None:
    """Write a figure; an HTML page has each of its pictures as an SVG of its own."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        sections = [_section(number, picture) for number, picture in enumerate(pictures)]
        title = ", ".join(picture.title for picture in pictures) if len(pictures) < 3 else "Training runs"
        write_atomically(path, _PAGE.format(title=html.escape(title), sections="\n".join(sections)))
        return
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    figure.savefig(path, format=suffix[1:], metadata=undated)


def _section(number: int, picture: _Picture) -> str:
    figure, file = new_figure(picture.width, picture.height), io.StringIO()
    picture.draw(figure)
    figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>p{number}-", svg)  # ids are unique in the page
    title = html.escape(picture.title)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    return f"<h2>{title}</h2>\n<figure>{svg}</figure>"
