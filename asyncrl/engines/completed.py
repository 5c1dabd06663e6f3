"""Rollouts that are ready and wait to be asked for: what threads and processes have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from asyncrl.errors import ActorDied
from asyncrl.experience.rollout import Ticket

__all__ = ["PATIENCE", "Arrivals"]

PATIENCE = 300.0
"""Seconds without a word from any actor after which a wait is given up."""


class Arrivals:
    """`hear(seconds)` returns the tickets of rollouts that became ready, [] if none did in that time."""

    def __init__(self, hear: Callable[[float], Sequence[Ticket]], patience: float = PATIENCE) -> None:
        self._hear, self._patience = hear, patience
        self._ready: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def take(self, wanted: Sequence[Ticket] | int, give_up: Callable[[], bool]) -> list[Ticket]:
        """Wait for these tickets and return them in this order; or, given a number, for the first so many.

        [] where nothing comes for a second and `give_up` says so.
        """
        self._listen(0.0)
        heard = time.monotonic()
        while not self._are_ready(wanted):
            if self._listen(1.0):
                heard = time.monotonic()
            elif give_up():
                return []
            elif time.monotonic() - heard > self._patience:
                raise ActorDied(f"no actor answered within {self._patience:.0f} s; waiting for {self._missing(wanted)}")
        numbers = list(self._ready)[:wanted] if isinstance(wanted, int) else [t.number for t in wanted]
        return [self._ready.pop(number) for number in numbers]

    def _listen(self, seconds: float) -> bool:
        tickets = self._hear(seconds)
        self._ready.update((ticket.number, ticket) for ticket in tickets)
        return bool(tickets)

    def _are_ready(self, wanted: Sequence[Ticket] | int) -> bool:
        if isinstance(wanted, int):
            return len(self._ready) >= wanted
        return all(ticket.number in self._ready for ticket in wanted)

    def _missing(self, wanted: Sequence[Ticket] | int) -> str:
        if isinstance(wanted, int):
            return f"{wanted - len(self._ready)} more rollouts"
        return "rollouts " + ", ".join(f"{t.number} (actor {t.actor})" for t in wanted if t.number not in self._ready)
