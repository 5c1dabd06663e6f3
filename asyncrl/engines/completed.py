"""Rollouts that are ready and wait to be asked for: what threads and processes have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from asyncrl.errors import ActorDied
from asyncrl.experience.rollout import Ticket

__all__ = ["TIMEOUT", "CompletedRollouts"]

TIMEOUT = 300.0
"""Seconds without a word from any actor after which a wait is given up."""


class CompletedRollouts:
    """`hear(seconds)` returns the tickets of rollouts that became ready, [] if none did in that time."""

    def __init__(self, receive: Callable[[float], Sequence[Ticket]], patience: float = TIMEOUT) -> None:
        self._receive, self._patience = receive, patience
        self._ready: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def take(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> list[Ticket]:
        """Wait for these tickets and return them in this order; or, given a number, for the first so many.

        [] where nothing comes for a second and `should_stop` says so.
        """
        self._listen(0.0)
        heard = time.monotonic()
        while not self._are_ready(expected):
            if self._listen(1.0):
                heard = time.monotonic()
            elif should_stop():
                return []
            elif time.monotonic() - heard > self._patience:
                raise ActorDied(f"no actor answered within {self._patience:.0f} s; waiting for {self._missing(expected)}")
        numbers = list(self._ready)[:expected] if isinstance(expected, int) else [t.number for t in expected]
        return [self._ready.pop(number) for number in numbers]

    def _listen(self, seconds: float) -> bool:
        tickets = self._receive(seconds)
        self._ready.update((ticket.number, ticket) for ticket in tickets)
        return bool(tickets)

    def _are_ready(self, expected: Sequence[Ticket] | int) -> bool:
        if isinstance(expected, int):
            return len(self._ready) >= expected
        return all(ticket.number in self._ready for ticket in expected)

    def _missing(self, expected: Sequence[Ticket] | int) -> str:
        if isinstance(expected, int):
            return f"{expected - len(self._ready)} more rollouts"
        return "rollouts " + ", ".join(f"{t.number} (actor {t.actor})" for t in expected if t.number not in self._ready)
