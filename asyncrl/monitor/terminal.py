"""Views of a run on standard output: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO, cast

from rich.console import Console
from rich.live import Live as RichLive

from asyncrl.common.counting import counted
from asyncrl.monitor.panel import Progress, RunPanel
from asyncrl.monitor.sink import Record, Sink

__all__ = ["Live", "Plain", "Quiet", "live_view", "terminal_view"]


def terminal_view(title: str, steps: int, *, quiet: bool) -> Sink:
    """The view for standard output."""
    return Quiet() if quiet else live_view(title, steps)


def live_view(title: str, steps: int) -> Sink:
    """A panel if standard output is a terminal that can be drawn on (one with TERM=dumb cannot); else lines."""
    return Live(title, steps) if sys.stdout.isatty() and Console().is_interactive else Plain(steps)


class _Output:
    """Standard output, with a question mark for a character that its encoding lacks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        stream = self._stream
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))

    @property
    def _stream(self) -> TextIO:
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # a panel replaces standard output


class Plain:
    """Prints a line per record, at most one in ten seconds."""

    def __init__(self, steps: int) -> None:
        self._progress = Progress(steps)
        self._output = _Output()
        self._spoke = -1e9
        self._since: float | None = None

    def write(self, record: Record) -> None:
        self._progress.take(record)
        if record["kind"] == "eval":
            measures = "".join(f", {name} {mean:.4g}" for name, mean in record.get("measures", {}).items())
            episodes = counted(record["episodes"], "episode")
            print(
                f"evaluation at step {record['step']:,} ({record['mode']}): mean {record['mean']:.2f}, "
                f"median {record['median']:.2f}, IQM {record['iqm']:.2f}{measures} over {episodes}",
                file=self._output,
                flush=True,
            )
        if record["kind"] == "verdict":
            print(f"speed: {record['verdict']}", file=self._output, flush=True)
        last = record["step"] >= self._progress.steps
        if record["kind"] == "train" and (last or not 0 <= record["time"] - self._spoke < 10):  # < 0 after a rewind
            self._spoke = record["time"]
            score = "–" if record["mean_return"] is None else f"{record['mean_return']:.2f}"
            print(
                f"step {record['step']:>12,} / {self._progress.steps:,}  {self._progress.steps_per_second:>9,.0f} steps/s  "
                f"return {score:>8}  episodes {record['episodes']:>6,}  lag {record['policy_lag'] or 0:.2f}  "
                f"left {self._progress.time_left}",
                file=self._output,
                flush=True,
            )

    def say(self, line: str) -> None:
        self._output.write(f"{line}\n")  # one write even without buffering: a reader takes all of it or nothing
        self._output.flush()

    def status(self, text: str) -> None:
        """Print a line every ten seconds."""
        now = time.monotonic()
        self._since = now if not text or self._since is None else self._since
        if text and now - self._since >= 10:
            self._since = now
            print(text, file=self._output, flush=True)
        if not text:
            self._since = None

    def close(self) -> None:
        pass


class Quiet:
    """Prints nothing."""

    def write(self, record: Record) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class Live:
    """A panel, redrawn with every record; messages scroll above it."""

    def __init__(self, title: str, steps: int, console: Console | None = None) -> None:
        self._panel = RunPanel(title, steps)
        self._console = console or Console(file=cast(TextIO, _Output()))
        self._live: RichLive | None = None

    def write(self, record: Record) -> None:
        if self._panel.take(record):
            self._show()

    def status(self, text: str) -> None:
        if text != self._panel.status:
            self._panel.status = text
            self._show()

    def say(self, line: str) -> None:
        # soft_wrap: the terminal breaks long lines, so that a command can be copied from it
        self._console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None  # a run that rewinds opens a new panel

    def _show(self) -> None:
        has_dots = self._console.encoding.startswith("utf")  # the chart is drawn with Braille patterns
        view = self._panel.draw(self._console.width, self._console.height, chart=has_dots)
        if self._live is None:
            self._live = RichLive(view, console=self._console, refresh_per_second=4)
            self._live.start()
        self._live.update(view)
