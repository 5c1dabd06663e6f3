"""The program of a worker process: it serves one environment until its pipe is closed.

It runs in a fresh Python interpreter, without the parent's threads and `__main__`, and without torch.
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

from asyncrl.common.close_on_fork import set_close_on_fork
from asyncrl.envs.checked import CheckedEnv, fault_of
from asyncrl.envs.supervision.shared_buffers import SharedBuffers
from asyncrl.errors import EnvironmentFault

__all__ = ["DUMP_TRACEBACK", "OK", "Failure", "FailureKind", "Ready", "StepReply", "main"]

OK = b"."
"""The reply when everything is in the shared buffers."""

DUMP_TRACEBACK: int = getattr(signal, "SIGUSR1", 0)  # Windows, which has no workers, lacks it
"""The signal that writes every thread's stack to the worker's trace file."""


class FailureKind(Enum):
    """The kind of an environment's failure."""

    RAISED = "raised"
    """Its code raised an exception."""
    CONTRACT = "contract"
    """It returned something that Gymnasium's interface forbids."""
    DIED = "died"
    """Its process ended."""
    HUNG = "hung"
    """It did not reply in time."""
    MEMORY = "memory"
    """Its process exceeded the memory limit."""


@dataclass(frozen=True)
class Failure:
    """A failure in a worker."""

    kind: FailureKind
    what: str
    """A predicate whose subject is the environment, such as "raised RuntimeError in step: …"."""
    traceback: str = ""
    """The environment's traceback, or the stack of its process; "" if unknown."""


@dataclass(frozen=True)
class Ready:
    """The reply once the environment is made."""

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    metadata: dict[str, Any]
    render_mode: str | None


@dataclass(frozen=True)
class StepReply:
    """The parts of a reset's or a step's result that are not in the shared buffers."""

    observation: Any = None
    """None if it is in the shared buffers."""
    info: bytes | None = None
    """Pickled separately, so that an info that the parent cannot unpickle is dropped alone."""


def main(pipe: int, memory: int, traces: int) -> None:
    """Run a worker (see `ChildProcess`). The arguments are inherited file descriptors."""
    faulthandler.enable(traces)
    faulthandler.register(DUMP_TRACEBACK, traces)
    set_close_on_fork(pipe)  # whose end is this worker's
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(pipe) as connection:
        _serve(connection, memory)


def _serve(pipe: Connection, memory: int) -> None:
    setup = pipe.recv_bytes()
    try:
        make, num_envs, row, seed = pickle.loads(setup)
        env = CheckedEnv.made(make, seed)
        ready = pickle.dumps(Ready(env.observation_space, env.action_space, env.metadata, env.render_mode))
    except BaseException as problem:
        pipe.send_bytes(pickle.dumps(_failure(fault_of(problem, "its making"))))
        return
    pipe.send_bytes(ready)
    with contextlib.closing(env):
        request = pipe.recv_bytes()  # once there is a request, the shared buffers are allocated
        buffers = SharedBuffers(memory, num_envs, env.observation_space, env.action_space, allocate=False)
        server = _EnvServer(env, buffers, row)
        while True:
            pipe.send_bytes(server.reply(request))
            request = pipe.recv_bytes()


class _EnvServer:
    """One environment and its row of the shared buffers."""

    def __init__(self, env: CheckedEnv, buffers: SharedBuffers, row: int) -> None:
        self._env = env
        self._buffers = buffers
        self._row = row

    def reply(self, request: bytes) -> bytes:
        """Handle a request. One byte is a step with the shared action; its value is the observation buffer to fill."""
        verb = "step"
        try:
            if len(request) == 1:
                return self._step(request[0], self._buffers.action[self._row].copy())
            verb, buffer, *arguments = pickle.loads(request)
            return self._step(buffer, *arguments) if verb == "step" else self._reset(buffer, *arguments)
        except BaseException as problem:  # an environment that calls sys.exit has failed too
            return pickle.dumps(_failure(fault_of(problem, verb)))

    def _reset(self, buffer: int, seed: int, options: dict[str, Any] | None) -> bytes:
        observation, info = self._env.reset(seed=seed, options=options)
        return self._result(buffer, observation, 0.0, False, False, info)

    def _step(self, buffer: int, action: Any) -> bytes:
        return self._result(buffer, *self._env.step(action))

    def _result(
        self, buffer: int, observation: Any, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]
    ) -> bytes:
        """Write a result to the shared buffers; returns the reply with what does not fit there."""
        buffers, row = self._buffers, self._row
        buffers.reward[row] = reward
        buffers.terminated[row] = terminated
        buffers.truncated[row] = truncated
        if buffers.shares_observation:
            buffers.observation[buffer, row] = observation
            if not info:
                return OK
            observation = None
        try:
            return pickle.dumps(StepReply(observation, _pickled(info)))
        except Exception as problem:
            raise EnvironmentFault(f"returned an observation that cannot be pickled: {problem}") from None


def _pickled(info: dict[Any, Any]) -> bytes:
    """Pickle an info without the items that cannot be pickled."""
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
