"""Stop signals, turned into a request that the training loop reads between updates."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "TERMINATING",
    "Interrupt",
    "StopRequest",
    "Terminated",
    "defer_interrupts",
    "end_by",
    "end_call_after",
    "handle_stop_signals",
    "interrupt_by",
    "is_from_keyboard",
    "keep_signals_from_sdl",
    "raise_interrupts",
]

TERMINATING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""The signals that raise `Terminated`."""
_STOP_SIGNALS = [signal.SIGINT, *TERMINATING]


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, as opposed to a KeyboardInterrupt raised by an environment."""


class Terminated(Interrupt):
    """SIGTERM or SIGHUP, where there is nothing to save."""

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(sentence)
        self.number = number


class StopRequest:
    """True once a stop signal has arrived."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """Number of the first signal that arrived."""
        self._interrupts = 0
        self._handled: list[signal.Signals] = []

    def __bool__(self) -> bool:
        return self.signal is not None

    def install_handlers(self) -> None:
        """Install the signal handlers again, if an environment has replaced them."""
        for number in self._handled:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if number == signal.SIGINT and self._interrupts > 1:
            raise Interrupt  # a second Ctrl-C stops at once
        if self.signal is None:
            self.signal = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            # Unbuffered, as the signal may interrupt a print.
            os.write(2, b"\nstopping after this update and saving; press Ctrl-C again to stop at once\n")


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a StopRequest during the block. It has no effect outside the main thread.

    An ignored SIGHUP (`nohup`) stays ignored. The previous handlers are restored at the end.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    request._handled = [
        number
        for number in _STOP_SIGNALS
        if number in (signal.SIGINT, signal.SIGTERM) or previous[number] != signal.SIG_IGN
    ]
    try:
        request.install_handlers()
        yield request
    finally:
        for number in request._handled:
            signal.signal(number, previous[number] or signal.SIG_DFL)


@contextmanager
def raise_interrupts() -> Iterator[None]:
    """Let Ctrl-C raise `Interrupt` instead of KeyboardInterrupt, and SIGTERM and SIGHUP `Terminated`.

    Signals that have other handlers, or are ignored, keep them. It has no effect outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    defaults = {
        number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL for number in _STOP_SIGNALS
    }
    handled = {number: default for number, default in defaults.items() if signal.getsignal(number) is default}
    for number in handled:
        signal.signal(number, _raise_interrupt)
    try:
        yield
    finally:
        for number, default in handled.items():
            signal.signal(number, default)


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block: some extension modules crash if it interrupts their import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous or signal.SIG_DFL)
    if received:
        raise Interrupt


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            # Extension modules may turn it into an ImportError, or abort. During imports there is nothing to save.
            if number != signal.SIGINT:
                end_by(number)
            os.write(2, b"asyncrl: stopped\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise interrupt_by(number)


def interrupt_by(number: int, sentence: str = "") -> Interrupt:
    """What a stop signal raises where there is nothing to save."""
    return Interrupt(sentence) if number == signal.SIGINT else Terminated(number, sentence)


def end_by(number: int) -> None:
    """End this process by a signal, as if it had no handler."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def end_call_after(number: int, sentence: str) -> None:
    """End the caller's program, too, after a signal at which a function has saved everything and stopped.

    Ctrl-C raises KeyboardInterrupt with the sentence. SIGTERM and SIGHUP print it and raise SystemExit with a shell's exit
    code; if the program handles or ignores them, that is done instead. A command of `asyncrl` reports and ends by itself.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt(sentence)
    handler = signal.getsignal(number)
    if handler is _raise_interrupt:
        return
    if handler != signal.SIG_DFL:
        signal.raise_signal(number)
        return
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(sentence, file=sys.stderr)
    raise SystemExit(128 + number)


def keep_signals_from_sdl() -> None:
    """Let SIGTERM end a program that draws with pygame, whose SDL would otherwise make it an event of a window.

    Sets the environment variable SDL_NO_SIGNAL_HANDLERS unless it is set already.
    """
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")


def is_from_keyboard(error: BaseException) -> bool:
    """Return whether an exception was raised by Ctrl-C, and not by code that raises KeyboardInterrupt itself."""
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    # This module's handlers raise only Interrupt. Any other handler may have raised the exception.
    return isinstance(error, Interrupt) or (callable(handler) and getattr(handler, "__module__", "") != __name__)
