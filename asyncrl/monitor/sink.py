"""The interface of sinks."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Buffered", "Display", "Durable", "Failable", "Record", "Sink"]

Record = dict[str, Any]
"""A line of metrics.jsonl: step, update, time, kind, and the fields of that kind."""


class Sink(Protocol):
    """A destination of records and messages."""

    def write(self, record: Record) -> None:
        """Write a record."""

    def say(self, line: str) -> None:
        """Write a message."""

    def close(self) -> None:
        """Write what is buffered and release resources."""


@runtime_checkable
class Buffered(Protocol):
    """A sink that collects records."""

    def flush(self) -> None:
        """Write what is collected."""


@runtime_checkable
class Durable(Protocol):
    """A sink whose records must be on disk before a checkpoint is saved."""

    def sync(self) -> None:
        """Write everything to disk."""


@runtime_checkable
class Failable(Protocol):
    """A sink that shows whether a run failed."""

    def fail(self) -> None:
        """Note that an error ended the run; `close` follows."""


@runtime_checkable
class Display(Protocol):
    """A sink that also shows what the run does while it does not learn."""

    def status(self, text: str) -> None:
        """Show for example "evaluating: 3 of 30 episodes"; "" when it learns again."""
