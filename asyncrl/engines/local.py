"""The learner's side of an engine whose actors share its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from asyncrl.engines.completed import TIMEOUT, CompletedRollouts
from asyncrl.engines.memory import Memory
from asyncrl.experience.rollout import Rollout, Ticket

__all__ = ["LocalEngine"]


class LocalEngine:
    """Publishes to and collects from shared memory; subclasses run the actors."""

    def __init__(self, memory: Memory, timeout: float = TIMEOUT) -> None:
        self._memory = memory
        self._completed = CompletedRollouts(self._receive, lambda: self.steps, timeout)

    @property
    def ready(self) -> int:
        return len(self._completed)

    @property
    def steps(self) -> int:
        """How often the actors have stepped their environments, also to restore them."""
        return self._memory.steps

    def publish(self, version: int, weights: Tensor) -> None:
        self._memory.publish(version, weights)

    def collect(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> dict[Ticket, Rollout]:
        rollouts = {ticket: self._memory.slots[ticket.slot] for ticket in self._completed.wait_for(expected, should_stop)}
        for ticket, rollout in rollouts.items():
            rollout.check(ticket)
        return rollouts

    def _receive(self, seconds: float) -> list[Ticket]:
        """Return the tickets of newly completed rollouts; wait up to `seconds` for the first."""
        raise NotImplementedError
