"""What takes records."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Display", "Durable", "Record", "Sink"]

Record = dict[str, Any]
"""One line of metrics.jsonl: step, update, time, kind, and the fields of that kind."""


class Sink(Protocol):
    """Something that records and sentences go to."""

    def write(self, record: Record) -> None:
        """Take one record."""

    def say(self, line: str) -> None:
        """Take a sentence for a person."""

    def close(self) -> None:
        """Write what is left."""


@runtime_checkable
class Durable(Protocol):
    """A sink whose records outlive the process: before a checkpoint is made, they are on disk."""

    def sync(self) -> None:
        """Have everything on disk that was written so far."""


@runtime_checkable
class Display(Protocol):
    """A sink that also shows what the run is doing while it is not learning."""

    def status(self, text: str) -> None:
        """Show for example "evaluating: 3 of 30 episodes"; "" where it is learning again."""
