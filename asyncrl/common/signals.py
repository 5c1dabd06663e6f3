"""Signals that ask a run to stop, as a wish that the training loop reads between two updates."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "Interrupt",
    "StopRequest",
    "handle_stop_signals",
    "holding_interrupts",
    "is_from_keyboard",
    "raising_interrupts",
]

_STOPPING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, told apart from a KeyboardInterrupt that an environment raises."""


class StopRequest:
    """`signal` is the number of the signal that asked to stop, None as long as none did."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._heeded: list[signal.Signals] = []

    def __bool__(self) -> bool:
        return self.signal is not None

    def listen(self) -> None:
        """Handle the signals again, even if an environment has put its own handler in place since."""
        for number in self._heeded:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise Interrupt  # the second Ctrl-C stops at once
        self.signal = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            # Straight to the file: a signal may come while something is being printed.
            os.write(2, b"\nstopping after this update, to save what was learned; Ctrl-C stops at once\n")


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Note SIGINT, SIGTERM and SIGHUP instead of dying of them; only the main thread can.

    Where SIGHUP is ignored already (`nohup`), it stays so. The handlers from before are put back at the end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    request._heeded = [n for n in _STOPPING if n == signal.SIGINT or n == signal.SIGTERM or before[n] != signal.SIG_IGN]
    try:
        request.listen()
        yield request
    finally:
        for number in request._heeded:
            signal.signal(number, before[number] or signal.SIG_DFL)


@contextmanager
def raising_interrupts() -> Iterator[None]:
    """Raise `Interrupt` at Ctrl-C instead of a plain KeyboardInterrupt; only the main thread can."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _raise_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def holding_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back until the block's end: extension modules do not survive it while they are imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if heard:
        raise Interrupt


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            # An extension module that is being imported may take it for an ImportError, or abort. Nothing is under way yet.
            os.write(2, b"asyncrl: stopped\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise Interrupt


def is_from_keyboard(problem: BaseException) -> bool:
    """Is it Ctrl-C, and not code that raised KeyboardInterrupt by itself?"""
    if not isinstance(problem, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    # Our own handlers raise nothing but Interrupt; whose handler is in place otherwise, it may have raised this.
    return isinstance(problem, Interrupt) or (callable(handler) and getattr(handler, "__module__", "") != __name__)
