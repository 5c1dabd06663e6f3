"""Schedules: which weights version each rollout is collected with, and which update learns from it.

`Lockstep` is stateless arithmetic, so timing cannot affect a run. `Free` is first come, first served, as in the 2016
paper. Both answer the same three questions of the training loop: `initial_requests`, `expected` and `next_requests`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncrl.experience.rollout import NEWEST_VERSION, Ticket

__all__ = ["Free", "Lockstep"]


@dataclass(frozen=True)
class Lockstep:
    """Rollout n is collected by actor n mod A, and update k learns from rollouts k·M … (k+1)·M − 1.

    Version k is the weights after k updates; every P-th is published. Every rollout that update k learns from
    is collected with the newest published version that is not above max(0, k − lag). Two facts follow, and no lock
    is needed:

    * 1 + ⌈lag / P⌉ weight buffers are enough (lag + 1 where every version is published): version v is used only
      by rollouts of updates < v + lag + P, and a version that takes its buffer exists only after those updates.
    * (lag + 1)·M slots are enough: rollout n + (lag + 1)·M is requested only after the update that
      learned from rollout n.
    """

    actors: int
    rollouts: int
    """M: rollouts per update."""
    steps_per_rollout: int
    updates: int | None
    """Updates of the whole run; None if not known beforehand."""
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
        """The weights version that the rollouts of `update` are collected with."""
        return max(0, update - self.lag) // self.publish_every * self.publish_every

    def tickets(self, update: int) -> list[Ticket]:
        """The rollouts that `update` learns from, in order."""
        if self.updates is not None and update >= self.updates:
            return []
        first = update * self.rollouts
        return [
            Ticket(n, n % self.actors, self.version(update), n % self.slots, n * self.steps_per_rollout)
            for n in range(first, first + self.rollouts)
        ]

    def initial_requests(self, first: int) -> list[tuple[int, list[Ticket]]]:
        """The requests before update `first`: published versions, each with the rollouts to collect with it."""
        return [(self.version(update), self.tickets(update)) for update in range(first, first + self.lag + 1)]

    def expected(self, update: int) -> list[Ticket]:
        """The rollouts that update `update` waits for."""
        return self.tickets(update)

    def next_requests(self, update: int, consumed: Sequence[Ticket]) -> list[Ticket]:
        """The rollouts to request after `update` has learned from `consumed` and its weights are published."""
        return self.tickets(update + 1 + self.lag)


@dataclass
class Free:
    """The next `rollouts` rollouts to be completed by any actor, each collected with the newest weights at its start.

    `slots` bounds how far actors run ahead: an actor without a slot waits.
    """

    actors: int
    rollouts: int
    steps_per_rollout: int
    updates: int | None
    slots: int
    publish_every: int = 1
    """Updates between published versions."""
    _requested: int = field(default=0, init=False)

    @property
    def weight_buffers(self) -> int:
        return 2  # the newest, and the one being written

    def initial_requests(self, first: int) -> list[tuple[int, list[Ticket]]]:
        """One rollout per slot, round-robin over the actors."""
        self._requested = first * self.rollouts
        slots = range(min(self.slots, self._needed(first)))
        version = first // self.publish_every * self.publish_every
        return [(version, [self._ticket(slot % self.actors, slot) for slot in slots])]

    def expected(self, update: int) -> int:
        return self.rollouts

    def next_requests(self, update: int, consumed: Sequence[Ticket]) -> list[Ticket]:
        """One rollout for each slot that became free, unless enough are in progress for the rest of the run."""
        outstanding = self._requested - (update + 1) * self.rollouts
        still_needed = self._needed(update + 1) - outstanding
        return [self._ticket(t.actor, t.slot) for t in consumed[: max(0, still_needed)]]

    def _needed(self, update: int) -> int:
        """Rollouts to be consumed from `update` to the end of the run."""
        return sys.maxsize if self.updates is None else (self.updates - update) * self.rollouts

    def _ticket(self, actor: int, slot: int) -> Ticket:
        number, self._requested = self._requested, self._requested + 1
        return Ticket(number, actor, NEWEST_VERSION, slot, number * self.steps_per_rollout)
