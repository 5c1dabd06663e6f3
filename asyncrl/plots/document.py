"""A report as headings, paragraphs, tables and figures, written as Markdown and as one HTML page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Block", "Figure", "Heading", "Rows", "Text", "svg_of", "to_html", "to_markdown"]


@dataclass(frozen=True)
class Heading:
    """The title of a section; level 1 is the report's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph. `code` is written in a fixed-width font, line by line."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Rows:
    """A table; columns after the first hold numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """An SVG picture, and its content in words."""

    svg: str
    description: str


Block = Heading | Text | Rows | Figure

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1a1a1a; --muted: #5f6368; --line: #dcdfe3; --page: #fff; --panel: #f6f7f9 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8eaed; --muted: #9aa0a6; --line: #3c4043; --page: #17191c; --panel: #212429 }} }}
body {{ font: 16px/1.55 system-ui, sans-serif; margin: 2rem auto 4rem; padding: 0 1rem; max-width: 60rem;
  color: var(--ink); background: var(--page) }}
h1 {{ font-size: 1.6rem; margin-bottom: .25rem }} h2 {{ font-size: 1.2rem; margin: 2.25rem 0 .5rem }}
h3 {{ font-size: 1rem; margin: 1.5rem 0 .5rem }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .75rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }}
th {{ color: var(--muted); font-weight: 600 }} th:first-child, td:first-child {{ text-align: left }}
figure {{ margin: 1rem 0; padding: .75rem; background: #fff; border: 1px solid var(--line); border-radius: 6px;
  overflow-x: auto; width: fit-content; max-width: 100%; box-sizing: border-box }}
figure svg {{ display: block; max-width: 100%; height: auto }}
pre {{ font-size: .85rem; background: var(--panel); padding: .75rem; border-radius: 6px; overflow-x: auto }}
a {{ color: inherit }} p {{ overflow-wrap: anywhere }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_markdown(blocks: Iterable[Block]) -> str:
    """The report in Markdown, with its figures left out."""
    return "\n\n".join(part for part in map(_markdown, blocks) if part) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Text(code=True):
            return f"```\n{block.text}\n```"
        case Text():
            return block.text
        case Rows():
            cells = [[cell.replace("|", "\\|") for cell in row] for row in (block.header, *block.rows)]
            widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
            lines = [" | ".join(_aligned(row, widths)) for row in cells]
            rule = " | ".join("-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths))
            return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
    return ""


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def to_html(title: str, blocks: Iterable[Block]) -> str:
    """The report as one HTML page, which loads nothing."""
    body = "\n".join(_html(number, block) for number, block in enumerate(blocks))
    return _PAGE.format(title=html.escape(title), body=body)


def _html(number: int, block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
        case Text(code=True):
            return f"<pre>{html.escape(block.text)}</pre>"
        case Text():
            text = re.sub(r"(https://[^\s<>()]+[^\s<>().,;:])", r'<a href="\1">\1</a>', html.escape(block.text))
            return "<p>" + re.sub("`([^`]+)`", r"<code>\1</code>", text) + "</p>"
        case Rows():
            head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in block.header)
            rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in block.rows)
            body = "\n".join(f"<tr>{row}</tr>" for row in rows)
            return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
        case Figure():
            svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>f{number}-", block.svg)  # ids are unique in the page
            labelled = f'<svg role="img" aria-label="{html.escape(block.description)}" '
            return f"<figure>{svg.replace('<svg ', labelled, 1)}</figure>"


def svg_of(figure: Any) -> str:
    """Return a matplotlib figure as an `<svg>` element, without the date."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
