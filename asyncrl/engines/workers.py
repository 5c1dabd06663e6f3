"""Processes that serve: forked from a server, heard through a pipe each, ended with it."""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import multiprocessing
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import cloudpickle

from asyncrl.common.child_process import how_it_ended, reporting_crashes
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines.forkserver import NOT_STARTED, ForkServer, serve
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.envs import Backend, Contract, sources
from asyncrl.errors import ActorDied, AsyncRLError, UsageError

__all__ = ["Workers", "main", "prepare"]

_FAREWELL = 5.0
"""Seconds that workers have to finish what they do when they are closed; then they are killed."""

_LOST = (EOFError, BrokenPipeError, ConnectionResetError)

_idle: list[ForkServer] = []
"""Servers without workers: the next workers take one."""

_lock = threading.Lock()


def prepare() -> None:
    """Start a fork server now: it imports what workers need while the caller goes on."""
    with _lock:
        if not any(server.is_usable for server in _idle):
            _idle.append(ForkServer(__name__))


def dismiss() -> None:
    """End the fork servers that nobody uses."""
    with _lock:
        while _idle:
            server = _idle.pop()
            if server.owner == os.getpid():  # else this process was forked from the owner
                server.kill()


atexit.register(dismiss)


def _take_server() -> ForkServer:
    with _lock:
        while _idle:
            server = _idle.pop()
            if server.is_usable:
                return server
            if server.owner == os.getpid():
                server.kill()
    return ForkServer(__name__)


def _give_back(server: ForkServer) -> None:
    with _lock:
        _idle.append(server)


class Workers:
    """`count` processes that run ``serve(index, pipe, *arguments)`` until their pipe is closed.

    They do not hear Ctrl-C, SIGTERM and SIGHUP: whoever started them decides when to stop. They need nothing of the
    caller's `__main__`. `SharedMemory` may be among the arguments: it is not copied. `contract` says which
    environments they make, `code` names what else they look up as `module:Name`.
    """

    def __init__(
        self,
        serve: Callable[..., None],
        count: int,
        contract: Contract,
        *arguments: Any,
        code: Sequence[str] = (),
    ) -> None:
        self._contract, self._is_closed = contract, False
        descriptors, order = _packed((serve, arguments))
        there = pickle.dumps(
            (sys.path, _working_directory(), dict(os.environ), sources.dump(contract, *code), contract.env)
        )
        self._server = _take_server()
        self._pipes: list[Connection] = []
        try:
            for index in range(count):
                here, other = multiprocessing.Pipe()
                self._pipes.append(here)
                with other:
                    self._server.fork(index, [other.fileno(), *descriptors])
            for pipe in self._pipes:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: hear says so
                    pipe.send_bytes(there)
                    pipe.send_bytes(order)
        except BaseException as problem:
            for pipe in self._pipes:
                pipe.close()
            self._server.kill()
            if isinstance(problem, OSError) and problem.errno in (errno.EMFILE, errno.ENFILE):
                raise UsageError(
                    f"--actors {count}: the limit of open files is too low for so many: raise it (ulimit -n), take "
                    "fewer actors, or --engine threads"
                ) from None
            raise

    def send(self, index: int, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died: hear says so
            self._pipes[index].send(message)

    def receive(self, seconds: float) -> list[Any]:
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
        if self._is_closed:
            return
        self._is_closed = have_ended = True
        for pipe in self._pipes:
            pipe.close()
        try:
            have_ended = self._server.wait(_FAREWELL)
        except BaseException:  # a second Ctrl-C
            have_ended = False
            raise
        finally:
            if have_ended:
                _give_back(self._server)
            else:
                self._server.kill()

    def _death(self, index: int) -> ActorDied:
        code = self._server.exit_code(index, 1.0)
        if code is None:
            return ActorDied(f"actor {index} closed its pipe, or the process that actors are forked from was killed")
        if code >= NOT_STARTED:
            reason = os.strerror(code - NOT_STARTED)
            return ActorDied(f"actor {index} could not be started ({reason}): take fewer --actors, or --engine threads")
        contract = self._contract.for_actor(index)
        cause, reason = how_it_ended(code)
        cause = cause.replace("signal", "killed by", 1)
        advice = "" if reason or contract.backend is not Backend.SYNC else _ADVICE
        return ActorDied(f"actor {index} died ({cause}) in {contract.env}{reason}{advice}")


_ADVICE = "; --env-backend async goes on when an environment crashes"


def main(control: int) -> None:
    """The life of a fork server, and of every worker that is forked from it."""
    with socket.socket(fileno=control) as owner:
        work = serve(owner)
    if work is not None:
        index, (pipe, *descriptors) = work
        try:
            # lost: whoever started it has gone
            with contextlib.suppress(*_LOST), Connection(pipe) as connection, reporting_crashes():
                _work(index, connection, descriptors)
        except BaseException:
            traceback.print_exc()
            _leave(1)
        _leave(0)


def _leave(code: int) -> NoReturn:
    """End a fork as Python ends, but for the taking down of all modules: where torch is one of them, that takes seconds."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    os._exit(code)


def _work(index: int, pipe: Connection, descriptors: list[int]) -> None:
    """A worker's whole life."""
    set_torch_threads(1)
    try:
        sys.path[:], folder, environment, sent, env_id = pickle.loads(pipe.recv_bytes())
        if folder is not None:
            os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sources.install(sent, env_id)
        serve, arguments = _Unpickler(io.BytesIO(pipe.recv_bytes()), descriptors).load()
        serve(index, pipe, *arguments)
    except AsyncRLError as fault:
        pipe.send(fault)
    except _LOST:
        raise
    except BaseException:
        pipe.send(ActorDied(f"actor {index} failed:\n{traceback.format_exc()}"))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Sends shared memory as a descriptor."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.descriptors: list[int] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, SharedMemory):
            return None
        self.descriptors.append(value.file)
        return len(self.descriptors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, descriptors: list[int]) -> None:
        super().__init__(file)
        self._memories = [SharedMemory(descriptor) for descriptor in descriptors]

    def persistent_load(self, place: int) -> SharedMemory:
        return self._memories[place]


def _packed(value: Any) -> tuple[list[int], bytes]:
    """`value` for another process, and the descriptors that it needs."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return pickler.descriptors, file.getvalue()


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
