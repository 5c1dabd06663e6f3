"""Numbers of things in messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """A number and its noun, as `1 episode` or `1,000 episodes`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
