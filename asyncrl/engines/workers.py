"""Worker processes, forked from a fork server and connected by a pipe each."""

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
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, NoReturn

import cloudpickle

from asyncrl.common import fork_pool
from asyncrl.common.child_process import describe_exit_code, report_crashes, working_directory
from asyncrl.common.close_on_fork import close_connection_on_fork, set_close_on_fork
from asyncrl.common.fork_server import FORK_FAILED, serve
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.envs import Backend, Contract, sources
from asyncrl.errors import ActorDied, AsyncRLError, LearnerDied, UsageError

__all__ = ["ACTORS", "LEARNERS", "Role", "Workers", "main"]

_CLOSE_TIMEOUT = 5.0
"""Seconds that workers have to end on `close` before they are killed."""

_PIPE_CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)


class Role(NamedTuple):
    """What worker processes are, for messages."""

    noun: str
    first: int
    """Number of the first one."""
    died: type[AsyncRLError]
    """What is raised for one that died."""
    start_remedy: str
    """What may help where one cannot be started."""

    def name(self, index: int) -> str:
        return f"{self.noun} {self.first + index}"


ACTORS = Role("actor", 0, ActorDied, "reduce --actors, or use --engine threads")
LEARNERS = Role("learner", 1, LearnerDied, "reduce --learners")


class Workers:
    """`count` processes that run ``serve(index, pipe, *arguments)`` until their pipe is closed.

    They ignore SIGINT, SIGTERM and SIGHUP, which are the parent's to handle, and do not import its `__main__`.
    A `SharedMemory` among the arguments is shared, not copied. `contract` holds the environments that the workers
    create; `code` lists other code that they look up as `module:Name`.
    """

    def __init__(
        self,
        serve: Callable[..., None],
        count: int,
        contract: Contract,
        *arguments: Any,
        code: Sequence[str] = (),
        role: Role = ACTORS,
    ) -> None:
        self._contract, self._role = contract, role
        self._closed = False
        descriptors, task = _pickle((serve, arguments))
        setup = _Setup(
            search_path=sys.path,
            working_directory=working_directory(),
            environment_variables=dict(os.environ),
            code=sources.dump(contract, *code),
            env_id=contract.env,
            role=role,
        )
        self._server = fork_pool.acquire()
        self._pipes: list[Connection] = []
        self._failures: list[AsyncRLError] = []
        self.running = set(range(count))
        """Numbers of the workers whose end was not received."""
        try:
            for index in range(count):
                own_end, worker_end = multiprocessing.Pipe()
                close_connection_on_fork(own_end)  # a worker ends when its last copy is closed
                self._pipes.append(own_end)
                with worker_end:
                    self._server.fork(index, [worker_end.fileno(), *descriptors])
            for pipe in self._pipes:
                with contextlib.suppress(*_PIPE_CLOSED):  # the worker died: `receive` raises
                    pipe.send(tuple(setup))
                    pipe.send_bytes(task)
        except BaseException as error:
            for pipe in self._pipes:
                pipe.close()
            self._server.kill()
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise UsageError(
                    f"--{role.noun}s {role.first + count}: the limit on open files is too low: raise it (ulimit -n), or "
                    f"{role.start_remedy}"
                ) from None
            raise

    def send(self, index: int, message: Any) -> None:
        """Send a message to worker `index`. If it died, the next `receive` raises."""
        with contextlib.suppress(*_PIPE_CLOSED):
            self._pipes[index].send(message)

    def send_bytes(self, index: int, message: bytes) -> None:
        """Send bytes to worker `index`, as `send`."""
        with contextlib.suppress(*_PIPE_CLOSED):
            self._pipes[index].send_bytes(message)

    def receive(self, seconds: float) -> list[Any]:
        """Return all messages that have arrived; wait up to `seconds` for the first.

        Raises the AsyncRLError that a worker ended with, or the error of its role if its process died: at once, or in the
        next call if there are messages.
        """
        messages: list[Any] = []
        open_pipes = {self._pipes[index]: index for index in sorted(self.running)}
        ready = [] if self._failures else wait(list(open_pipes), timeout=seconds)
        while ready:
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):  # in the middle of a message it is an OSError
                    message = self._death(open_pipes[pipe])
                if isinstance(message, AsyncRLError):
                    self.running.remove(open_pipes.pop(pipe))
                    self._failures.append(message)
                else:
                    messages.append(message)
            ready = wait([pipe for pipe in ready if pipe in open_pipes], timeout=0)
        if self._failures and not messages:
            raise self._failures.pop(0)
        return messages

    def close(self) -> None:
        """Close the pipes and wait for all workers to end; kill them after a timeout or an interrupt."""
        if self._closed:
            return
        self._closed = True
        have_ended = False
        for pipe in self._pipes:
            pipe.close()
        try:
            have_ended = self._server.wait(_CLOSE_TIMEOUT)
        finally:
            if have_ended:
                fork_pool.release(self._server)
            else:
                self._server.kill()

    def _death(self, index: int) -> AsyncRLError:
        """Return the error for a worker that closed its pipe."""
        code, role, name = self._server.exit_code(index, 1.0), self._role, self._role.name(index)
        if code is None:
            return role.died(f"{name} closed its pipe, or its fork server was killed")
        if code >= FORK_FAILED:
            return role.died(f"{name} could not be started ({os.strerror(code - FORK_FAILED)}): {role.start_remedy}")
        cause, hint = describe_exit_code(code)
        cause = cause.replace("signal", "killed by", 1)
        if role is not ACTORS:
            return role.died(f"{name} died ({cause}){hint}")
        contract = self._contract.for_actor(index)
        advice = "" if hint or contract.backend is not Backend.SYNC else _ADVICE
        return role.died(f"{name} died ({cause}) in {contract.env}{hint}{advice}")


_ADVICE = "; --env-backend async survives an environment's crash"


class _Setup(NamedTuple):
    """The state of the parent that a worker takes over."""

    search_path: list[str]
    working_directory: str | None
    environment_variables: dict[str, str]
    code: bytes
    """Code that cannot be imported, for `sources.install`."""
    env_id: str
    role: Role


def main(control: int) -> None:
    """Run a fork server, and every worker that it forks."""
    with socket.socket(fileno=control) as owner:
        worker = serve(owner)
    if worker is not None:
        index, (pipe, *descriptors) = worker
        set_close_on_fork(pipe)  # whose end is this worker's
        try:
            with contextlib.suppress(*_PIPE_CLOSED), Connection(pipe) as connection, report_crashes():
                _run_worker(index, connection, descriptors)
        except BaseException:
            traceback.print_exc()
            _exit(1)
        _exit(0)


def _exit(code: int) -> NoReturn:
    """End a fork as Python does, but without the teardown of modules, which takes seconds for torch."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    os._exit(code)


def _run_worker(index: int, pipe: Connection, descriptors: list[int]) -> None:
    set_torch_threads(1)
    setup = _Setup(*pipe.recv())
    try:
        sys.path[:] = setup.search_path
        if setup.working_directory is not None:
            os.chdir(setup.working_directory)
        os.environ.clear()
        os.environ.update(setup.environment_variables)
        sources.install(setup.code, setup.env_id)
        serve, arguments = _Unpickler(io.BytesIO(pipe.recv_bytes()), descriptors).load()
        serve(index, pipe, *arguments)
    except AsyncRLError as error:
        pipe.send(error)
    except _PIPE_CLOSED:
        raise
    except BaseException:
        pipe.send(setup.role.died(f"{setup.role.name(index)} failed:\n{traceback.format_exc()}"))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Replaces each SharedMemory by the index of its descriptor."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.descriptors: list[int] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, SharedMemory):
            return None
        self.descriptors.append(value.file)
        return len(self.descriptors) - 1


class _Unpickler(pickle.Unpickler):
    """The inverse of `_Pickler`; `descriptors` are this process's duplicates."""

    def __init__(self, file: io.BytesIO, descriptors: list[int]) -> None:
        super().__init__(file)
        self._memories = [SharedMemory(descriptor) for descriptor in descriptors]

    def persistent_load(self, index: int) -> SharedMemory:
        return self._memories[index]


def _pickle(value: Any) -> tuple[list[int], bytes]:
    """Pickle `value` for another process. Returns the descriptors that must be sent along, and the bytes."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return pickler.descriptors, file.getvalue()
