"""Actors in a process each, sharing memory with the learner. Only tickets are sent, five integers each."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.playback import open_actor
from asyncrl.common.randomness import seed_process
from asyncrl.common.torch_setup import pin, unpin
from asyncrl.engines.local import LocalEngine
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.engines.workers import Workers
from asyncrl.errors import closing
from asyncrl.experience.rollout import Ticket

__all__ = ["Processes"]


class Processes(LocalEngine):
    """Sends tickets to worker processes and receives them back when their rollouts are completed."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        memory = SharedMemory.allocate(plan.nbytes)
        super().__init__(Memory(plan, memory.tensor))
        self._pinned = memory.tensor if plan.is_pinned and pin(memory.tensor) else None
        self._workers = Workers(_serve, actors, spec.contract, spec, plan, memory, code=spec.code)

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._workers.send(ticket.actor, ticket)

    def close(self) -> None:
        self._workers.close()
        if self._pinned is not None:
            unpin(self._pinned)
            self._pinned = None

    def _receive(self, seconds: float) -> list[Ticket]:
        return self._workers.receive(seconds)


def _serve(index: int, pipe: Connection, spec: ActorSpec, plan: MemoryPlan, shared: SharedMemory) -> None:
    """Run actor `index` in a worker: collect the rollouts of the tickets that arrive."""
    seed_process(spec.seed, index)
    memory = Memory(plan, shared.tensor)
    with closing(open_actor(spec, index)) as actor:
        while True:
            ticket = pipe.recv()
            memory.fill(actor, ticket)
            pipe.send(ticket)
