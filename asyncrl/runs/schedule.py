"""Which weights make which rollout, and which update learns from it.

`Lockstep` is arithmetic and holds no state: nothing about timing can leak into a run. `Free` is first
come, first served, as in the 2016 paper. The training loop asks both the same two questions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncrl.experience.rollout import NEWEST_VERSION, Ticket

__all__ = ["Free", "Lockstep"]


@dataclass(frozen=True)
class Lockstep:
    """Rollout n is made by actor n mod A, and update k learns from rollouts k·M … (k+1)·M − 1.

    Version k is the weights after k updates; every P-th is published. Every rollout that update k learns from
    is made with the newest published version that is not above max(0, k − lag). Two facts follow, and no lock
    is needed:

    * 1 + ⌈lag / P⌉ weight buffers are enough (lag + 1 where every version is published): version v is used only
      by rollouts of updates < v + lag + P, and a version that takes its buffer exists only after those updates.
    * (lag + 1)·M slots are enough: rollout n + (lag + 1)·M is ordered only after the update that
      learned from rollout n.
    """

    actors: int
    rollouts: int
    """M: rollouts per update."""
    steps_per_rollout: int
    updates: int | None
    """The run's length, beyond which nothing is ordered; None: not known beforehand."""
    lag: int = 1
    publish_every: int = 1
    """P: updates between published versions."""

    @property
    def slots(self) -> int:
        return (self.lag + 1) * self.rollouts

    @property
    def weight_buffers(self) -> int:
        return 1 + -(-self.lag // self.publish_every)

    def version(self, update: int) -> int:
        """The weights that make the rollouts of `update`."""
        return max(0, update - self.lag) // self.publish_every * self.publish_every

    def tickets(self, update: int) -> list[Ticket]:
        """The rollouts of `update`, in the order of consumption."""
        if self.updates is not None and update >= self.updates:
            return []
        first = update * self.rollouts
        return [
            Ticket(n, n % self.actors, self.version(update), n % self.slots, n * self.steps_per_rollout)
            for n in range(first, first + self.rollouts)
        ]

    def initial_requests(self, first: int) -> list[tuple[int, list[Ticket]]]:
        """What is ordered before update number `first`: each version that is published, and the rollouts it makes."""
        return [(self.version(update), self.tickets(update)) for update in range(first, first + self.lag + 1)]

    def expected(self, update: int) -> list[Ticket]:
        """What update number `update` waits for."""
        return self.tickets(update)

    def next_requests(self, update: int, consumed: Sequence[Ticket]) -> list[Ticket]:
        """What is ordered once `update` has learned from `consumed` and its weights are published."""
        return self.tickets(update + 1 + self.lag)


@dataclass
class Free:
    """The next `rollouts` that are ready, whoever made them, with the newest weights at their start.

    `slots` bounds how far actors run ahead: an actor without a slot waits.
    """

    actors: int
    rollouts: int
    steps_per_rollout: int
    updates: int | None
    slots: int
    publish_every: int = 1
    """Updates between published versions."""
    _ordered: int = field(default=0, init=False)

    @property
    def weight_buffers(self) -> int:
        return 2  # the newest, and the one being written

    def initial_requests(self, first: int) -> list[tuple[int, list[Ticket]]]:
        """One rollout for every slot, actors taking turns."""
        self._ordered = first * self.rollouts
        slots = range(min(self.slots, self._needed(first)))
        version = first // self.publish_every * self.publish_every
        return [(version, [self._ticket(slot % self.actors, slot) for slot in slots])]

    def expected(self, update: int) -> int:
        return self.rollouts

    def next_requests(self, update: int, consumed: Sequence[Ticket]) -> list[Ticket]:
        """Every actor that was heard gets its slot back. Nothing is ordered that nobody would consume."""
        outstanding = self._ordered - (update + 1) * self.rollouts
        still_needed = self._needed(update + 1) - outstanding
        return [self._ticket(t.actor, t.slot) for t in consumed[: max(0, still_needed)]]

    def _needed(self, update: int) -> int:
        """Rollouts that are still to be consumed before the run ends, from `update` on."""
        return sys.maxsize if self.updates is None else (self.updates - update) * self.rollouts

    def _ticket(self, actor: int, slot: int) -> Ticket:
        number, self._ordered = self._ordered, self._ordered + 1
        return Ticket(number, actor, NEWEST_VERSION, slot, number * self.steps_per_rollout)
