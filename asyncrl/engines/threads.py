"""Actors in a thread each. Emulators and tensor operations release the GIL, so that they overlap."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.playback import open_actor
from asyncrl.common.torch_setup import set_torch_threads, use_own_stream
from asyncrl.engines.local import LocalEngine
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.errors import ActorDied, AsyncRLError, UsageError, closing
from asyncrl.experience.rollout import Ticket

__all__ = ["Threads"]

_CLOSE_TIMEOUT = 10.0
"""Seconds that actors have to end on `close`. Threads cannot be killed: one that hangs is abandoned."""


class _EngineClosed(BaseException):
    """The engine is closed: an actor in the middle of a rollout, or restoring its environments, ends."""


class Threads(LocalEngine):
    """Puts tickets into a queue per actor; completed ones come back through one queue."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        super().__init__(Memory(plan, plan.allocate()))
        self._requests: list[SimpleQueue[Ticket | None]] = [SimpleQueue() for _ in range(actors)]
        self._replies: SimpleQueue[Ticket | AsyncRLError] = SimpleQueue()
        self._closing = False
        self._threads: list[Thread] = []
        try:
            for index in range(actors):
                thread = Thread(target=self._serve, args=(spec, index), name=f"actor-{index}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError as problem:
            self.close()
            raise UsageError(
                f"--actors {actors}: actor {len(self._threads)} could not be started ({problem}): reduce --actors, or "
                "raise the limit on threads (ulimit -u)"
            ) from None

    def request(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._requests[ticket.actor].put(ticket)

    def close(self) -> None:
        self._closing = True
        for requests in self._requests:
            requests.put(None)
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _receive(self, seconds: float) -> list[Ticket]:
        tickets: list[Ticket] = []
        with contextlib.suppress(Empty):
            while True:
                reply = self._replies.get(block=not tickets and seconds > 0, timeout=seconds)
                if isinstance(reply, AsyncRLError):
                    raise reply
                tickets.append(reply)
        return tickets

    def _on_step(self, actor: int) -> None:
        if self._closing:
            raise _EngineClosed
        self._memory.count_step(actor)

    def _serve(self, spec: ActorSpec, index: int) -> None:
        set_torch_threads(1)  # of this thread; the learner keeps its own setting
        use_own_stream(spec.device)
        try:
            with closing(open_actor(spec, index, lambda: self._on_step(index))) as actor:
                while not self._closing and (ticket := self._requests[index].get()) is not None:
                    self._memory.fill(actor, ticket)
                    self._replies.put(ticket)
        except _EngineClosed:
            pass
        except AsyncRLError as error:
            self._replies.put(error)
        except BaseException:
            self._replies.put(ActorDied(f"actor {index} failed:\n{traceback.format_exc()}"))
