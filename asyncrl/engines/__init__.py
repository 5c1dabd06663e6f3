"""Where actors run and how slots and weights get there: the only place that knows.

An engine is four verbs. The same schedule gives the same run on each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from asyncrl.acting.actor import ActorSpec
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.engines.processes import Processes
from asyncrl.engines.serial import Serial
from asyncrl.engines.threads import Threads
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.runs.config import EngineKind

__all__ = ["Engine", "Memory", "MemoryPlan", "Processes", "Serial", "Threads", "open_engine"]


class Engine(Protocol):
    """Where actors run."""

    def publish(self, version: int, weights: Tensor) -> None:
        """Make weights [P] available to actors under `version`."""

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Order rollouts. Their slots are the actors' from now on."""

    def collect(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        """Wait for these rollouts, in this order; or for the first so many.

        Their slots are the caller's until they are ordered anew. Where actors are silent, `should_stop` is asked once a
        second whether to wait no longer: then {}.

        Raises EnvironmentFault or ActorDied where an actor ended instead.
        """

    def close(self) -> None:
        """End all actors and wait until they have ended."""

    @property
    def ready(self) -> int:
        """Rollouts that were waiting when `collect` last looked."""


_ENGINES: dict[EngineKind, type[Serial] | type[Threads] | type[Processes]] = {
    EngineKind.SERIAL: Serial,
    EngineKind.THREADS: Threads,
    EngineKind.PROCESSES: Processes,
}


def open_engine(kind: EngineKind, spec: ActorSpec, actors: int, plan: MemoryPlan) -> Engine:
    """Start `actors` actors."""
    engine: Engine = _ENGINES[kind](spec, actors, plan)
    return engine
