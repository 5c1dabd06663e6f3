"""A view of a run in a Jupyter notebook."""

from __future__ import annotations

import importlib
import io
import sys
import time
from typing import Any

from rich.console import Console

from asyncrl.monitor.panel import RunPanel
from asyncrl.monitor.sink import Record

__all__ = ["Notebook", "in_notebook"]

_WIDTH = 100
"""Columns of the panel."""
_SECONDS = 0.25
"""Least time between two drawings: each is sent to the browser."""
_FORMAT = '<pre style="line-height: 1.2; font-family: monospace">{code}</pre>'


def in_notebook() -> bool:
    """Whether this process is the kernel of a Jupyter notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class Notebook:
    """The panel of a terminal below the cell that trains, redrawn in place; messages are printed."""

    def __init__(self, title: str, steps: int) -> None:
        self._panel = RunPanel(title, steps)
        self._handle: Any = None
        self._drawn = -1e9

    def write(self, record: Record) -> None:
        if self._panel.take(record):
            self._show()

    def status(self, text: str) -> None:
        if text != self._panel.status:
            self._panel.status = text
            self._show()

    def say(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None:
        self._drawn = -1e9
        self._show()
        self._handle = None  # a run that rewinds opens a new panel

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._drawn < _SECONDS:
            return
        self._drawn = now
        display: Any = importlib.import_module("IPython.display")
        picture = display.HTML(self._html())
        if self._handle is None:
            self._handle = display.display(picture, display_id=True)
        else:
            self._handle.update(picture)

    def _html(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, record=True, force_jupyter=False)
        console.print(self._panel.draw(_WIDTH))
        return console.export_html(inline_styles=True, code_format=_FORMAT)
