"""What takes records."""

from __future__ import annotations

from typing import Protocol

from asyncrl.statistics import Record

__all__ = ["Sink"]


class Sink(Protocol):
    """Something that records and sentences go to."""

    def write(self, record: Record) -> None:
        """Take one record."""

    def say(self, line: str) -> None:
        """Take a sentence for a person."""

    def close(self) -> None:
        """Write what is left."""
