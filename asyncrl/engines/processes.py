"""Actors in a process each, sharing memory with the learner. Only tickets are sent, five integers each."""

from __future__ import annotations

import contextlib
from collections import deque
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

_MAX_SENT = 100
"""Tickets that an actor has at once: so few that they fit into its pipe, on the way there and back. Where learner and actor
both waited for room in it, neither would read."""


class Processes(LocalEngine):
    """Sends tickets to worker processes and receives them back when their rollouts are completed."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        memory = SharedMemory.allocate(plan.nbytes)
        super().__init__(Memory(plan, memory.tensor))
        self._waiting = [deque[Ticket]() for _ in range(actors)]
        self._sent = [0] * actors
        with contextlib.ExitStack() as stack:
            if plan.is_pinned and pin(memory.tensor):
                stack.callback(unpin, memory.tensor)
            self._workers = Workers(_serve, actors, spec.contract, spec, plan, memory, code=spec.code)
            stack.callback(self._workers.close)
            self._stack = stack.pop_all()

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._waiting[ticket.actor].append(ticket)
            self._send(ticket.actor)

    def close(self) -> None:
        self._stack.close()

    def _send(self, actor: int) -> None:
        """Send the actor the tickets that it may have."""
        while self._waiting[actor] and self._sent[actor] < _MAX_SENT:
            self._workers.send(actor, self._waiting[actor].popleft())
            self._sent[actor] += 1

    def _receive(self, seconds: float) -> list[Ticket]:
        tickets: list[Ticket] = self._workers.receive(seconds)
        for ticket in tickets:
            self._sent[ticket.actor] -= 1
            self._send(ticket.actor)
        return tickets


def _serve(index: int, pipe: Connection, spec: ActorSpec, plan: MemoryPlan, shared: SharedMemory) -> None:
    """Run actor `index` in a worker: collect the rollouts of the tickets that arrive."""
    seed_process(spec.seed, index)
    memory = Memory(plan, shared.tensor)
    with closing(open_actor(spec, index, lambda: memory.count_step(index))) as actor:
        while True:
            ticket = pipe.recv()
            memory.fill(actor, ticket)
            pipe.send(ticket)
