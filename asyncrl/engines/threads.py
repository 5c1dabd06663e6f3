"""A thread per actor. Emulators and tensor arithmetic release the interpreter's lock, so they overlap."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.playback import open_actor
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines.local import LocalEngine
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.errors import ActorDied, AsyncRLError, closing
from asyncrl.experience.rollout import Ticket

__all__ = ["Threads"]

_FAREWELL = 10.0
"""Seconds that actors have to finish their rollouts when they are closed. Threads cannot be killed: who hangs is left."""


class Threads(LocalEngine):
    """Orders go into each actor's queue, tickets of finished rollouts come back through one."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        super().__init__(Memory(plan, plan.allocate()))
        self._orders: list[SimpleQueue[Ticket | None]] = [SimpleQueue() for _ in range(actors)]
        self._answers: SimpleQueue[Ticket | AsyncRLError] = SimpleQueue()
        self._closing = False
        self._threads = [
            Thread(target=self._serve, args=(spec, index), name=f"actor-{index}", daemon=True) for index in range(actors)
        ]
        for thread in self._threads:
            thread.start()

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._orders[ticket.actor].put(ticket)

    def close(self) -> None:
        self._closing = True
        for orders in self._orders:
            orders.put(None)
        deadline = time.monotonic() + _FAREWELL
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _receive(self, seconds: float) -> list[Ticket]:
        heard: list[Ticket] = []
        with contextlib.suppress(Empty):
            while True:
                answer = self._answers.get(block=not heard and seconds > 0, timeout=seconds)
                if isinstance(answer, AsyncRLError):
                    raise answer
                heard.append(answer)
        return heard

    def _serve(self, spec: ActorSpec, index: int) -> None:
        set_torch_threads(1)  # of this thread; the learner's is set before
        try:
            with closing(open_actor(spec, index)) as actor:
                while not self._closing and (ticket := self._orders[index].get()) is not None:
                    self._memory.fill(actor, ticket)
                    self._answers.put(ticket)
        except AsyncRLError as fault:
            self._answers.put(fault)
        except BaseException:
            self._answers.put(ActorDied(f"actor {index} failed:\n{traceback.format_exc()}"))
