"""Worker processes as their owner sees them: started, asked, heard with a deadline, ended."""

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
import psutil
from gymnasium.vector.utils import CloudpickleWrapper

from asyncrl.common.child_process import ChildProcess, anonymous_file, describe_exit_code
from asyncrl.envs.supervision.shared_buffers import SharedBuffers
from asyncrl.envs.supervision.worker import DUMP_TRACEBACK, OK, Failure, FailureKind, Ready, StepReply

__all__ = ["Failed", "WorkerPool", "WorkerProcess"]

_LONGEST_START = 120.0
"""Seconds that a worker has for its imports and for making its environment, if a step has not more."""

_MIB = 2**20


class Failed(Exception):
    """An environment failed in its worker; `failure` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class WorkerPool:
    """Where the workers of one vector environment meet: how each makes its environment, and their board."""

    buffers: SharedBuffers
    """There after `open`."""

    def __init__(
        self, make: Callable[[], gymnasium.Env[Any, Any]], num_envs: int, seeds: Sequence[int] | None = None
    ) -> None:
        """`seeds`, one per row: what constructors draw follows from them."""
        self._make, self._num_envs, self._seeds = CloudpickleWrapper(make), num_envs, seeds
        self._memory = anonymous_file()

    def start(self, row: int) -> WorkerProcess:
        """A new worker for one row of the board; it makes its environment while the caller goes on."""
        seed = None if self._seeds is None else self._seeds[row]
        return WorkerProcess(self, row, pickle.dumps((self._make, self._num_envs, row, seed)), self._memory)

    def open(self, ready: Ready) -> None:
        """Lay out the board for the spaces that a worker found."""
        self.buffers = SharedBuffers(
            self._memory, self._num_envs, ready.observation_space, ready.action_space, allocate=True
        )

    def close(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


class WorkerProcess:
    """One worker. It leads a process group of its own, and the whole group ends with it."""

    def __init__(self, place: WorkerPool, row: int, order: bytes, memory: int) -> None:
        self._place, self._row = place, row
        self._pipe, there = multiprocessing.Pipe()
        self._traces = os.fdopen(anonymous_file(), "w+b")
        with there:
            self._process = ChildProcess("asyncrl.envs.supervision.worker", (there.fileno(), memory, self._traces.fileno()))
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._send(order)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, seconds: float) -> Ready:
        """Wait until its environment is made; at least two minutes, or `seconds`. Raises Failed."""
        seconds = max(seconds, _LONGEST_START)
        answer = self._receive(time.monotonic() + seconds, f"was not made within {seconds:g} s")
        assert isinstance(answer, Ready)
        return answer

    def send_reset(self, buffer: int, seed: int, options: dict[str, Any] | None) -> None:
        """Reset, and see into this buffer of the board; `receive` has the answer."""
        self._send(pickle.dumps(("reset", buffer, seed, options)))

    def send_step(self, buffer: int, action: Any) -> None:
        """Step, and see into this buffer of the board; `receive` has the answer."""
        buffers = self._place.buffers
        if buffers.shares_action:
            buffers.action[self._row] = action
            self._send(bytes((buffer,)))
        else:
            self._send(pickle.dumps(("step", buffer, action)))

    def receive(self, buffer: int, deadline: float, timeout: float) -> dict[str, Any]:
        """The info of what was asked; all else stands on the board. Raises Failed, also after `deadline`.

        `deadline` is a time of `time.monotonic`, and `timeout` what it is called in the failure, in seconds.
        """
        answer = self._receive(deadline, f"did not answer within {timeout:g} s")
        if answer is None:
            return {}
        assert isinstance(answer, StepReply)
        buffers = self._place.buffers
        if not buffers.shares_observation:
            buffers.observation[buffer, self._row] = answer.observation
        return {} if answer.info is None else _unpickled(answer.info)

    def too_large(self, limit: int | None) -> Failure | None:
        """That it occupies more than `limit` MiB (resident), if it does; one that has just died occupies none."""
        if limit is None:
            return None
        try:
            used = psutil.Process(self.pid).memory_info().rss / _MIB
        except psutil.Error:
            return None
        return (
            Failure(FailureKind.MEMORY, f"used {used:.0f} MiB, more than --memory-limit {limit}") if used > limit else None
        )

    def kill(self) -> None:
        """End it and all that it started, at once."""
        self._process.kill()
        self._pipe.close()
        self._traces.close()

    def close(self) -> None:
        """Let it close its environment; `join` ends it."""
        self._pipe.close()

    def join(self, deadline: float) -> None:
        """Wait for its end until `deadline`, then kill it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: the answer says so
            self._pipe.send_bytes(message)

    def _receive(self, deadline: float, too_late: str) -> StepReply | Ready | None:
        if not self._poll.poll(max(0.0, math.ceil(1000 * (deadline - time.monotonic())))):
            raise Failed(self._hung(too_late) if self._process.poll() is None else self._death())
        try:
            message = self._pipe.recv_bytes()
        except (EOFError, ConnectionResetError):
            raise Failed(self._death()) from None
        if message == OK:
            return None
        answer: StepReply | Ready | Failure = pickle.loads(message)
        if isinstance(answer, Failure):
            raise Failed(answer)
        return answer

    def _hung(self, too_late: str) -> Failure:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, DUMP_TRACEBACK)
        for _ in range(20):  # a process that is stopped or swapped out says nothing
            time.sleep(0.05)
            if os.fstat(self._traces.fileno()).st_size:
                break
        return Failure(FailureKind.HUNG, too_late, self._last_words())

    def _death(self) -> Failure:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return Failure(FailureKind.DIED, "closed its worker's pipe", self._last_words())
        cause, hint = describe_exit_code(code)
        return Failure(FailureKind.DIED, f"died with {cause}{hint}", self._last_words())

    def _last_words(self) -> str:
        """Where the process was when it ended, as far as it could write that."""
        self._process.kill()
        self._traces.seek(0)
        return self._traces.read().decode(errors="replace")


def _unpickled(info: bytes) -> dict[str, Any]:
    """An info; {} where it holds what only its worker knows."""
    try:
        found: dict[str, Any] = pickle.loads(info)
    except Exception:
        return {}
    return found
