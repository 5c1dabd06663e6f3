"""Ctrl-C and SIGTERM as a wish that the training loop reads between two updates."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest", "listening"]


class StopRequest:
    """`signal` is the number of the signal that asked to stop, None as long as none did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C stops at once
        self.signal = number
        # Straight to the file: a signal may come while something is being printed.
        os.write(2, b"\nstopping after this update, to save what was learned; Ctrl-C stops at once\n")


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of dying of them; only the main thread can."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
