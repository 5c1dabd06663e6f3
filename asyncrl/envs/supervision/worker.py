"""What a worker process does: it has one environment and answers for it until its pipe is closed.

It is a Python of its own, so it inherits no threads, no torch and nobody's `__main__`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import pickle
import signal
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from asyncrl.envs.checked import CheckedEnv, fault_of
from asyncrl.envs.supervision.shared_buffers import SharedBuffers
from asyncrl.errors import EnvironmentFault

__all__ = ["DUMP_TRACEBACK", "OK", "Failure", "FailureKind", "Ready", "StepReply", "main"]

OK = b"."
"""The answer where all there is to say stands on the board."""

DUMP_TRACEBACK: int = getattr(signal, "SIGUSR1", 0)  # Windows, which has no workers, lacks it
"""Writes every thread's stack to the worker's file of traces, whatever it is doing."""


class FailureKind(Enum):
    """How an environment failed."""

    RAISED = "raised"
    """Its own code raised."""
    CONTRACT = "contract"
    """It answered what Gymnasium's interface forbids."""
    DIED = "died"
    """Its process ended."""
    HUNG = "hung"
    """It did not answer in time."""
    MEMORY = "memory"
    """Its process used more memory than it may."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker."""

    kind: FailureKind
    what: str
    """A predicate, to be said of the environment: "raised RuntimeError in step: …"."""
    traceback: str = ""
    """The environment's own, or where its process was; "" where nobody knows."""


@dataclass(frozen=True)
class Ready:
    """The environment is made."""

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    metadata: dict[str, Any]
    render_mode: str | None


@dataclass(frozen=True)
class StepReply:
    """What a reset or a step gave and the board does not hold."""

    observation: Any = None
    """None where it stands on the board."""
    info: bytes | None = None
    """Pickled for itself: whoever cannot read it goes without it."""


def main(pipe: int, memory: int, traces: int) -> None:
    """A worker's whole life (`ChildProcess`); the arguments are descriptors that it has inherited."""
    faulthandler.enable(traces)
    faulthandler.register(DUMP_TRACEBACK, traces)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(pipe) as connection:
        _live(connection, memory)


def _live(pipe: Connection, memory: int) -> None:
    order = pipe.recv_bytes()
    try:
        make, num_envs, row, seed = pickle.loads(order)
        env = CheckedEnv.made(make, seed)
        ready = pickle.dumps(Ready(env.observation_space, env.action_space, env.metadata, env.render_mode))
    except BaseException as problem:
        pipe.send_bytes(pickle.dumps(_failure(fault_of(problem, "its making"))))
        return
    pipe.send_bytes(ready)
    with contextlib.closing(env):
        request = pipe.recv_bytes()  # the first one says that the board is there
        buffers = SharedBuffers(memory, num_envs, env.observation_space, env.action_space, allocate=False)
        server = _EnvServer(env, buffers, row)
        while True:
            pipe.send_bytes(server.answer(request))
            request = pipe.recv_bytes()


class _EnvServer:
    """One environment and its row on the board."""

    def __init__(self, env: CheckedEnv, buffers: SharedBuffers, row: int) -> None:
        self._env, self._board, self._row = env, buffers, row

    def answer(self, request: bytes) -> bytes:
        """A request of one byte is a step: its action stands on the board, its value is the buffer to see into."""
        verb = "step"
        try:
            if len(request) == 1:
                return self._step(request[0], self._board.action[self._row].copy())
            verb, buffer, *arguments = pickle.loads(request)
            return self._step(buffer, *arguments) if verb == "step" else self._reset(buffer, *arguments)
        except BaseException as problem:  # an environment that wants to exit has failed, too
            return pickle.dumps(_failure(fault_of(problem, verb)))

    def _reset(self, buffer: int, seed: int, options: dict[str, Any] | None) -> bytes:
        observation, info = self._env.reset(seed=seed, options=options)
        return self._put(buffer, observation, 0.0, False, False, info)

    def _step(self, buffer: int, action: Any) -> bytes:
        return self._put(buffer, *self._env.step(action))

    def _put(
        self, buffer: int, observation: Any, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> bytes:
        buffers, row = self._board, self._row
        buffers.reward[row], buffers.terminated[row], buffers.truncated[row] = reward, terminated, truncated
        if buffers.shares_observation:
            buffers.observation[buffer, row] = observation
            if not info:
                return OK
            observation = None
        try:
            return pickle.dumps(StepReply(observation, _pickled(info)))
        except Exception as problem:
            raise EnvironmentFault(f"returned what no other process can be sent: {problem}") from None


def _pickled(info: dict[Any, Any]) -> bytes:
    """An info, without what cannot be pickled: nothing here needs it."""
    try:
        return pickle.dumps(info)
    except Exception:
        return pickle.dumps({name: value for name, value in info.items() if _can_be_pickled(name, value)})


def _can_be_pickled(*values: Any) -> bool:
    try:
        pickle.dumps(values)
    except Exception:
        return False
    return True


def _failure(fault: EnvironmentFault) -> Failure:
    return Failure(FailureKind.RAISED if fault.traceback else FailureKind.CONTRACT, str(fault), fault.traceback)
