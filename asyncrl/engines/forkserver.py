"""A process that workers are forked from: it has imported what they need, so each starts within milliseconds.

A process with live torch threads must not be forked; the fork server has none. It is reached through a socket without a
name, and it ends with its owner, together with all that it has forked (`ChildProcess`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence

from asyncrl.common.child_process import ChildProcess

__all__ = ["NOT_STARTED", "ForkServer", "serve"]

NOT_STARTED = 1000
"""Added to the error number where the system did not let a worker start; it stands for the exit code."""

_REQUEST = struct.Struct("q")
"""A worker's number; its descriptors go with it."""

_REPORT = struct.Struct("qq")
"""A worker's number and the exit code that it ended with."""


class ForkServer:
    """The owner's side. `module` has a function `main(control)` that calls `serve`; its imports are what forks share."""

    def __init__(self, module: str) -> None:
        self._control, there = socket.socketpair()
        with there:
            self._process = ChildProcess(module, (there.fileno(),))
        self._reports = b""
        self._running: set[int] = set()
        self._codes: dict[int, int] = {}
        self.owner = os.getpid()

    @property
    def is_usable(self) -> bool:
        """It runs, has no forks, and belongs to this process."""
        return self.owner == os.getpid() and not self._running and self._process.poll() is None

    def fork(self, number: int, descriptors: Sequence[int]) -> None:
        """Start a worker; it inherits these descriptors. The fork may happen later, once imports are done."""
        self._codes.pop(number, None)
        self._running.add(number)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died, and the worker's pipe says so
            socket.send_fds(self._control, [_REQUEST.pack(number)], list(descriptors))

    def exit_code(self, number: int, seconds: float) -> int | None:
        """What a worker ended with; None where that is not known within so many seconds."""
        self._wait(lambda: number in self._codes, seconds)
        return self._codes.get(number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of all workers; have all ended?"""
        self._wait(lambda: not self._running, seconds)
        return not self._running

    def kill(self) -> None:
        """End it and all workers, at once."""
        self._process.kill()
        self._control.close()

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not is_done():
            self._control.settimeout(max(1e-3, deadline - time.monotonic()))
            try:
                received = self._control.recv(4096)
            except (TimeoutError, ConnectionResetError):
                return
            if not received:
                return
            self._reports += received
            while len(self._reports) >= _REPORT.size:
                number, code = _REPORT.unpack_from(self._reports)
                self._reports = self._reports[_REPORT.size :]
                self._codes[number] = code
                self._running.discard(number)


def serve(control: socket.socket) -> tuple[int, list[int]] | None:
    """Fork on request. Returns in every fork: its number and descriptors; and None in the server when its owner is gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    numbers: dict[int, int] = {}
    sources: list[socket.socket | int] = [control, woken]
    while True:
        ready = select.select(sources, [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            for pid, code in _ended():
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    control.sendall(_REPORT.pack(numbers.pop(pid), code))
        if control in ready:
            request, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 16)
            if not request:
                return None
            (number,) = _REQUEST.unpack(request)
            try:
                pid = os.fork()
            except OSError as problem:
                pid = -1
                control.sendall(_REPORT.pack(number, NOT_STARTED + (problem.errno or 0)))
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                os.close(woken)
                os.close(wake)
                return number, descriptors
            numbers[pid] = number
            for descriptor in descriptors:
                os.close(descriptor)


def _ended() -> list[tuple[int, int]]:
    """Process ids and exit codes of children that have ended."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((ended[0], os.waitstatus_to_exitcode(ended[1])))
    return found
