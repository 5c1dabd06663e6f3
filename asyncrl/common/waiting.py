"""Timeouts for other processes, which do not run out while this process, and maybe the others with it, is suspended."""

from __future__ import annotations

import time

__all__ = ["waiting_time"]


def waiting_time(began: float, poll: float = 1.0) -> float:
    """Seconds since a poll of `poll` seconds `began` (`time.monotonic`), without those in which this process was suspended.

    A poll counts as twice its length at most.
    """
    return min(time.monotonic() - began, 2 * poll)
