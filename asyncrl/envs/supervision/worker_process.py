"""Worker processes from the parent's side: start them, send requests, receive replies before a deadline, end them."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.vector.utils import CloudpickleWrapper

from asyncrl.common.child_process import ChildProcess, anonymous_file, describe_exit_code
from asyncrl.common.close_on_fork import close_connection_on_fork
from asyncrl.common.waiting import waiting_time
from asyncrl.envs.supervision.shared_buffers import SharedBuffers
from asyncrl.envs.supervision.worker import DUMP_TRACEBACK, OK, Failure, FailureKind, Ready, StepReply

__all__ = ["Deadline", "Failed", "WorkerPool", "WorkerProcess", "first_info"]

_START_TIMEOUT = 120.0
"""Least time in seconds for a worker to import its modules and make its environment."""

_MIB = 2**20


class Failed(Exception):
    """Raised when an environment failed in its worker."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class Deadline:
    """The end of `seconds` of waiting for workers. Those in which this process was suspended hardly count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self._left = seconds

    def wait_for(self, poll: select.poll) -> bool:
        """Wait until `poll` reports an event; False if it reports none in time."""
        while True:
            began, seconds = time.monotonic(), min(1.0, self.seconds / 10, max(0.0, self._left))
            has_event = bool(poll.poll(math.ceil(1000 * seconds)))
            self._left -= waiting_time(began, seconds)
            if has_event or not seconds:
                return has_event


class WorkerPool:
    """Starts the workers of one vector environment and holds their shared buffers."""

    buffers: SharedBuffers
    """Set by `open`."""

    def __init__(
        self, make: Callable[[], gymnasium.Env[Any, Any]], num_envs: int, seeds: Sequence[int] | None = None
    ) -> None:
        """`seeds`, one per row, seed the random generators that constructors draw from."""
        self._make = CloudpickleWrapper(make)
        self._num_envs = num_envs
        self._seeds = seeds
        self._memory = anonymous_file()

    def start(self, row: int) -> WorkerProcess:
        """Start a worker for one row of the buffers, without waiting until its environment is made."""
        seed = None if self._seeds is None else self._seeds[row]
        return WorkerProcess(self, row, pickle.dumps((self._make, self._num_envs, row, seed)), self._memory)

    def open(self, ready: Ready) -> None:
        """Allocate the shared buffers for the spaces of a worker's environment."""
        self.buffers = SharedBuffers(
            self._memory, self._num_envs, ready.observation_space, ready.action_space, allocate=True
        )

    def close(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


class WorkerProcess:
    """One worker, which leads a process group that ends with it."""

    def __init__(self, pool: WorkerPool, row: int, setup: bytes, memory: int) -> None:
        self._pool = pool
        self._row = row
        self._pipe, workers_end = multiprocessing.Pipe()
        close_connection_on_fork(self._pipe)  # the worker ends when the last copy is closed
        self._traces = os.fdopen(anonymous_file(), "w+b")
        descriptors = (workers_end.fileno(), memory, self._traces.fileno())
        with workers_end:
            self._process = ChildProcess("asyncrl.envs.supervision.worker", descriptors)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._send(setup)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, seconds: float) -> Ready:
        """Wait `seconds`, or two minutes if that is longer, until the environment is made. Raises Failed."""
        seconds = max(seconds, _START_TIMEOUT)
        reply = self._receive(Deadline(seconds), f"was not made within {seconds:g} s")
        assert isinstance(reply, Ready)
        return reply

    def send_reset(self, buffer: int, seed: int, options: dict[str, Any] | None) -> None:
        """Request a reset whose observation goes into shared buffer `buffer`; `receive` returns the reply."""
        self._send(pickle.dumps(("reset", buffer, seed, options)))

    def send_step(self, buffer: int, action: Any) -> None:
        """Request a step whose observation goes into shared buffer `buffer`; `receive` returns the reply."""
        buffers = self._pool.buffers
        if buffers.shares_action:
            buffers.action[self._row] = action
            self._send(bytes((buffer,)))
        else:
            self._send(pickle.dumps(("step", buffer, action)))

    def receive(self, buffer: int, deadline: Deadline) -> dict[str, Any]:
        """Return the info of the last request; the rest of the result is in the shared buffers.

        Raises Failed, also at the deadline.
        """
        reply = self._receive(deadline, f"did not answer within {deadline.seconds:g} s")
        if reply is None:
            return {}
        assert isinstance(reply, StepReply)
        buffers = self._pool.buffers
        if not buffers.shares_observation:
            buffers.observation[buffer, self._row] = reply.observation
        return {} if reply.info is None else _unpickled(reply.info)

    def memory_failure(self, limit: int | None) -> Failure | None:
        """Return a failure if the process occupies more than `limit` MiB of resident memory."""
        if limit is None:
            return None
        import psutil  # environment workers, which import this module too, start sooner without it

        try:
            used = psutil.Process(self.pid).memory_info().rss / _MIB
        except psutil.Error:  # it has just died
            return None
        if used <= limit:
            return None
        return Failure(FailureKind.MEMORY, f"used {used:.0f} MiB, more than --memory-limit {limit}")

    def kill(self) -> None:
        """Kill the process and everything it started."""
        self._process.kill()
        self._pipe.close()
        self._traces.close()

    def close(self) -> None:
        """Ask the worker to close its environment; `join` waits for its end."""
        self._pipe.close()

    def join(self, deadline: float) -> None:
        """Wait for the worker's end until `deadline`, then kill it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is reported by _receive
            self._pipe.send_bytes(message)

    def _receive(self, deadline: Deadline, too_late: str) -> StepReply | Ready | None:
        if not deadline.wait_for(self._poll):
            raise Failed(self._hung(too_late) if self._process.poll() is None else self._death())
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            raise Failed(self._death()) from None
        if message == OK:
            return None
        reply: StepReply | Ready | Failure = pickle.loads(message)
        if isinstance(reply, Failure):
            raise Failed(reply)
        return reply

    def _hung(self, too_late: str) -> Failure:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, DUMP_TRACEBACK)
        for _ in range(20):  # a stopped or swapped-out process writes nothing
            time.sleep(0.05)
            if os.fstat(self._traces.fileno()).st_size:
                break
        return Failure(FailureKind.HUNG, too_late, self._final_trace())

    def _death(self) -> Failure:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return Failure(FailureKind.DIED, "closed its worker's pipe", self._final_trace())
        cause, hint = describe_exit_code(code)
        return Failure(FailureKind.DIED, f"died with {cause}{hint}", self._final_trace())

    def _final_trace(self) -> str:
        """Kill the process; returns the stack that it wrote, if any."""
        self._process.kill()
        self._traces.seek(0)
        return self._traces.read().decode(errors="replace")


def _unpickled(info: bytes) -> dict[str, Any]:
    """Unpickle an info; {} if it needs what only its worker can import."""
    try:
        found: dict[str, Any] = pickle.loads(info)
    except Exception:
        return {}
    return found


def first_info(make: Callable[[], gymnasium.Env[Any, Any]], timeout: float) -> dict[str, Any]:
    """Return the info of a first reset in a worker, with the seed 0; {} if the environment fails in `timeout` seconds."""
    pool = WorkerPool(make, 1, [0])
    worker = pool.start(0)
    try:
        pool.open(worker.ready(timeout))
        worker.send_reset(0, 0, None)
        return worker.receive(0, Deadline(timeout))
    except Failed:
        return {}
    finally:
        worker.kill()
        pool.close()
