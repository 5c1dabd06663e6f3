"""Engines: where actors run, and how rollouts and weights travel between them and the learner.

All other code is independent of the engine. In lockstep the same configuration gives the same weights on each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from asyncrl.acting.actor import ActorSpec
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.engines.processes import Processes
from asyncrl.engines.ray_engine import LostActor, RayEngine, RayOptions, connected
from asyncrl.engines.serial import Serial
from asyncrl.engines.threads import Threads
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.runs.config.run_config import EngineKind

__all__ = [
    "Engine",
    "LostActor",
    "Memory",
    "MemoryPlan",
    "Processes",
    "RayEngine",
    "RayOptions",
    "Serial",
    "Threads",
    "connected",
    "open_engine",
]


class Engine(Protocol):
    """Runs the actors of one training run."""

    def publish(self, version: int, weights: Tensor) -> None:
        """Make weights [P] float32 available to the actors as `version`."""

    def request(self, tickets: Sequence[Ticket]) -> None:
        """Request rollouts. The actors own the tickets' slots until the rollouts are collected."""

    def collect(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        """Wait for the rollouts of these tickets, in this order, or for the first `expected` to be completed.

        The caller owns their slots until it requests rollouts in them again. While no rollout is completed,
        `should_stop` is called once a second; if it returns True, the result is empty. Raises EnvironmentFault or
        ActorDied if an actor failed.
        """

    def close(self) -> None:
        """Stop all actors and wait for them to end."""

    @property
    def ready(self) -> int:
        """Completed rollouts that were not yet collected, as of the last call of `collect`."""


_ENGINES: dict[EngineKind, type[Serial] | type[Threads] | type[Processes]] = {
    EngineKind.SERIAL: Serial,
    EngineKind.THREADS: Threads,
    EngineKind.PROCESSES: Processes,
}


def open_engine(kind: EngineKind, spec: ActorSpec, actors: int, plan: MemoryPlan, ray: RayOptions | None = None) -> Engine:
    """Start an engine with `actors` actors. `ray`: what the Ray engine needs in addition."""
    if kind is EngineKind.RAY:
        return RayEngine(spec, actors, plan, ray or RayOptions())
    engine: Engine = _ENGINES[kind](spec, actors, plan)
    return engine
