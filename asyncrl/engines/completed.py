"""Completed rollouts that wait to be collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from asyncrl.common.waiting import waiting_time
from asyncrl.errors import ActorDied
from asyncrl.experience.rollout import Ticket

__all__ = ["TIMEOUT", "CompletedRollouts"]

TIMEOUT = 300.0
"""Seconds without a step after which the actors are considered dead."""


class CompletedRollouts:
    """The tickets of completed rollouts, in order of completion.

    `receive(seconds)` waits up to `seconds` for at least one, and returns the tickets completed since the last call.
    `progress` returns a number that changes with every step of an actor, those of restoring environments included.
    """

    def __init__(
        self,
        receive: Callable[[float], Sequence[Ticket]],
        progress: Callable[[], float] = lambda: 0,
        timeout: float = TIMEOUT,
    ) -> None:
        self._receive, self._progress, self._timeout = receive, progress, timeout
        self._completed: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._completed)

    def wait_for(self, expected: Sequence[Ticket] | int, should_stop: Callable[[], bool]) -> list[Ticket]:
        """Wait for these tickets and return them in this order, or for the first `expected` to be completed.

        Returns [] if `should_stop` returns True; it is called after each second without a completed rollout.
        Raises ActorDied after `timeout` seconds without a step or a completed rollout.
        """
        self._poll(0.0)
        waited, progress = 0.0, self._progress()
        while not self._has(expected):
            began = time.monotonic()
            if self._poll(1.0):
                waited = 0.0
                continue
            if should_stop():
                return []
            before, progress = progress, self._progress()
            waited = waited + waiting_time(began) if progress == before else 0.0
            if waited > self._timeout:
                raise ActorDied(f"no actor took a step within {self._timeout:.0f} s; waiting for {self._missing(expected)}")
        numbers = list(self._completed)[:expected] if isinstance(expected, int) else [t.number for t in expected]
        return [self._completed.pop(number) for number in numbers]

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget those of these rollouts that were completed but not collected; they will be repeated."""
        for number in numbers:
            self._completed.pop(number, None)

    def _poll(self, seconds: float) -> bool:
        """Return whether any rollout was completed."""
        tickets = self._receive(seconds)
        self._completed.update((ticket.number, ticket) for ticket in tickets)
        return bool(tickets)

    def _has(self, expected: Sequence[Ticket] | int) -> bool:
        if isinstance(expected, int):
            return len(self._completed) >= expected
        return all(ticket.number in self._completed for ticket in expected)

    def _missing(self, expected: Sequence[Ticket] | int) -> str:
        if isinstance(expected, int):
            return f"{expected - len(self._completed)} more rollouts"
        missing = (ticket for ticket in expected if ticket.number not in self._completed)
        return "rollouts " + ", ".join(f"{ticket.number} (actor {ticket.actor})" for ticket in missing)
