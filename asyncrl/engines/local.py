"""What engines on one machine have in common: the learner's side of the shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from asyncrl.engines.completed import TIMEOUT, CompletedRollouts
from asyncrl.engines.memory import Memory
from asyncrl.experience.rollout import Rollout, Ticket

__all__ = ["LocalEngine"]


class LocalEngine:
    """Publishes into and collects from memory that its actors see too; a subclass says where they run."""

    def __init__(self, memory: Memory, patience: float = TIMEOUT) -> None:
        self._memory = memory
        self._arrivals = CompletedRollouts(self._receive, patience)

    @property
    def ready(self) -> int:
        return len(self._arrivals)

    def publish(self, version: int, weights: Tensor) -> None:
        self._memory.publish(version, weights)

    def collect(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        rollouts = {ticket: self._memory.slots[ticket.slot] for ticket in self._arrivals.take(expected, should_stop)}
        for ticket, rollout in rollouts.items():
            rollout.check(ticket)
        return rollouts

    def _receive(self, seconds: float) -> list[Ticket]:
        """Tickets of rollouts that became ready; waits for the first at most so long."""
        raise NotImplementedError
