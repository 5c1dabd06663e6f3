"""Processes that serve: started without fork, heard through a pipe each, ended with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from typing import Any

import torch.multiprocessing  # noqa: F401  registers how tensors in shared memory cross to another process

from asyncrl.arithmetic import compute_with
from asyncrl.errors import ActorDied, AsyncRLError

__all__ = ["Workers", "prepare"]

_FAREWELL = 5.0
"""Seconds that workers have to finish what they do when they are closed; then they are killed."""

_LOST = (EOFError, BrokenPipeError, ConnectionResetError)


def prepare() -> None:
    """Start the server that workers are forked from; it imports what they need while the caller goes on.

    Never fork a process with live torch threads: the fork server has none.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["asyncrl.engines"])
        forkserver.ensure_running()


def _context() -> ForkServerContext | SpawnContext:
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver") if "forkserver" in methods else multiprocessing.get_context("spawn")


class Workers:
    """`count` processes that run ``serve(index, pipe, *arguments)`` until their pipe is closed.

    They do not hear Ctrl-C and SIGTERM: whoever started them decides when to stop.
    """

    def __init__(self, serve: Callable[..., None], count: int, *arguments: Any) -> None:
        prepare()
        context = _context()
        self._pipes: list[Connection] = []
        self._processes: list[ForkServerProcess | SpawnProcess] = []
        for index in range(count):
            here, there = context.Pipe()
            # Not a daemon: an actor may have environment workers of its own.
            process = context.Process(target=_live, args=(serve, index, there, arguments), name=f"actor-{index}")
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def send(self, index: int, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died: hear says so
            self._pipes[index].send(message)

    def hear(self, seconds: float) -> list[Any]:
        """What workers said; waits for the first at most so long.

        Raises the AsyncRLError that a worker ended with, and ActorDied where one ended without a word.
        """
        heard = []
        for pipe in wait(self._pipes, timeout=seconds):
            assert isinstance(pipe, Connection)
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self._death(self._pipes.index(pipe)) from None
            if isinstance(answer, AsyncRLError):
                raise answer
            heard.append(answer)
        return heard

    def close(self) -> None:
        """Close the pipes and wait for the end of all; where that takes too long or is interrupted, kill them."""
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + _FAREWELL
        try:
            for process in self._processes:
                process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also at a second Ctrl-C: Python does not exit before all have ended
            for process in self._processes:
                if process.is_alive():
                    process.kill()
            for process in self._processes:
                process.join()

    def _death(self, index: int) -> ActorDied:
        process = self._processes[index]
        process.join(1.0)
        code = process.exitcode
        cause = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
        return ActorDied(f"actor {index} died ({cause}){hint}")


def _live(serve: Callable[..., None], index: int, pipe: Connection, arguments: Sequence[Any]) -> None:
    """A worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    compute_with(1)
    with contextlib.suppress(*_LOST):  # whoever started it has gone
        try:
            serve(index, pipe, *arguments)
        except AsyncRLError as fault:
            pipe.send(fault)
        except _LOST:
            raise
        except BaseException:
            pipe.send(ActorDied(f"actor {index} failed:\n{traceback.format_exc()}"))
