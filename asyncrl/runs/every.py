"""Events that are due at regular intervals of environment steps."""

from __future__ import annotations

__all__ = ["Every"]


class Every:
    """Due once per multiple of `interval` steps, however many steps an update takes.

    It is due before the first `mark`, too, and never again if `interval` is None or 0.
    """

    def __init__(self, interval: int | None) -> None:
        self._interval = interval or 0
        self._marked: int | None = None

    def is_due(self, step: int) -> bool:
        """Whether `step` is past a multiple of the interval that the last marked step was not past."""
        if self._marked is None:
            return True
        return bool(self._interval) and step // self._interval > self._marked // self._interval

    def mark(self, step: int) -> None:
        """Note that the event took place at `step`."""
        self._marked = step
