"""Actors and learner in one thread: the reference for all other engines."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.playback import RolloutSource, open_actor
from asyncrl.common.torch_setup import one_torch_thread
from asyncrl.engines.local import LocalEngine
from asyncrl.engines.memory import Memory, MemoryPlan
from asyncrl.errors import AsyncRLError
from asyncrl.experience.rollout import Ticket

__all__ = ["Serial"]


class Serial(LocalEngine):
    """Makes the requested rollouts in `collect`: as with other engines, that is where an actor's fault is raised."""

    def __init__(self, spec: ActorSpec, actors: int, plan: MemoryPlan) -> None:
        super().__init__(Memory(plan, plan.allocate()), timeout=0.0)
        self._actors: list[RolloutSource] = []
        self._requested: list[Ticket] = []
        try:
            for index in range(actors):
                self._actors.append(open_actor(spec, index))
        except BaseException:
            with contextlib.suppress(AsyncRLError):
                self.close()
            raise

    def request(self, tickets: Sequence[Ticket]) -> None:
        self._requested += tickets

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for actor in self._actors:
                stack.callback(actor.close)

    def _receive(self, seconds: float) -> list[Ticket]:
        requested, self._requested = self._requested, []
        with one_torch_thread():  # as the actors of other engines
            for ticket in requested:
                self._memory.fill(self._actors[ticket.actor], ticket)
        return requested
