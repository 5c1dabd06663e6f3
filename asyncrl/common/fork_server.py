"""A process that workers are forked from. It has done their imports, so that a worker starts within milliseconds.

A process with live torch threads must not be forked; the fork server has none. Its owner reaches it through an unnamed
socket. It ends with its owner, together with all workers (`ChildProcess`).
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

__all__ = ["FORK_FAILED", "ForkServer", "serve"]

FORK_FAILED = 1000
"""Added to the errno of a failed fork, to report it as an exit code."""

_REQUEST = struct.Struct("q")
"""A worker's number; its file descriptors are sent along."""

_REPORT = struct.Struct("qq")
"""A worker's number and its exit code."""

_MAX_DESCRIPTORS = 16


class ForkServer:
    """The owner's side of a fork server.

    The server runs ``main(control)`` of `module`, which calls `serve`. Workers share what the module has imported.
    """

    def __init__(self, module: str) -> None:
        self._control, server_end = socket.socketpair()
        with server_end:
            self._process = ChildProcess(module, (server_end.fileno(),))
        self._reports = b""
        self._running: set[int] = set()
        self._exit_codes: dict[int, int] = {}
        self.owner = os.getpid()

    @property
    def is_reusable(self) -> bool:
        """Whether it is alive, belongs to this process and has no workers."""
        return self.owner == os.getpid() and not self._running and self._process.poll() is None

    def fork(self, number: int, descriptors: Sequence[int]) -> None:
        """Start worker `number`, which inherits the file descriptors. Returns before the fork is done."""
        self._exit_codes.pop(number, None)
        self._running.add(number)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server died: the worker's pipe reports it
            socket.send_fds(self._control, [_REQUEST.pack(number)], list(descriptors))

    def exit_code(self, number: int, seconds: float) -> int | None:
        """Return a worker's exit code, or None if it is unknown after `seconds`."""
        self._wait(lambda: number in self._exit_codes, seconds)
        return self._exit_codes.get(number)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for all workers to end; return whether they have."""
        self._wait(lambda: not self._running, seconds)
        return not self._running

    def kill(self) -> None:
        """Kill the server and all workers."""
        self._process.kill()
        self._control.close()

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> None:
        """Receive reports until `is_done`, for up to `seconds`, or until the server has died."""
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
                self._exit_codes[number] = code
                self._running.discard(number)


def serve(control: socket.socket) -> tuple[int, list[int]] | None:
    """Fork a worker for each request until the owner is gone, then return None.

    In a worker it returns the worker's number and file descriptors.
    """
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    numbers: dict[int, int] = {}  # by process id
    sources: list[socket.socket | int] = [control, wake_reader]
    while True:
        ready = select.select(sources, [], [])[0]
        if wake_reader in ready:
            os.read(wake_reader, 4096)
            for pid, code in _ended_children():
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    control.sendall(_REPORT.pack(numbers.pop(pid), code))
        if control in ready:
            request, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, _MAX_DESCRIPTORS)
            if not request:
                return None
            (number,) = _REQUEST.unpack(request)
            try:
                pid = os.fork()
            except OSError as error:
                pid = -1
                control.sendall(_REPORT.pack(number, FORK_FAILED + (error.errno or 0)))
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                os.close(wake_reader)
                os.close(wake_writer)
                return number, descriptors
            numbers[pid] = number
            for descriptor in descriptors:
                os.close(descriptor)


def _ended_children() -> list[tuple[int, int]]:
    """Return the process ids and exit codes of children that have ended."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (status := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append((status[0], os.waitstatus_to_exitcode(status[1])))
    return ended
