"""One process, one thread: the definition that the other engines are held to."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from asyncrl.actor import Actor, ActorSpec
from asyncrl.engines.arrivals import Arrivals
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.rollout import Rollout, Ticket

__all__ = ["Serial"]


class Serial:
    """Makes each rollout when it is ordered."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        self._memory = Memory(plan, plan.allocate(shared=False))
        self._actors = [Actor(spec, index) for index in range(actors)]
        self._made: list[Ticket] = []
        self._arrivals = Arrivals(self._hear, patience=0.0)

    @property
    def ready(self) -> int:
        return len(self._arrivals)

    def publish(self, version: int, weights: Tensor) -> None:
        self._memory.publish(version, weights)

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._memory.fill(self._actors[ticket.actor], ticket)
            self._made.append(ticket)

    def collect(self, wanted: Sequence[Ticket] | int) -> dict[Ticket, Rollout]:
        return {ticket: self._memory.slots[ticket.slot] for ticket in self._arrivals.take(wanted)}

    def close(self) -> None:
        for actor in self._actors:
            actor.close()

    def _hear(self, seconds: float) -> list[Ticket]:
        made, self._made = self._made, []
        return made
