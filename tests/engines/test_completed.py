"""Waiting for rollouts ends where actors are silent, and not where the run was suspended."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from asyncrl.engines import completed
from asyncrl.engines.completed import CompletedRollouts
from asyncrl.errors import ActorDied
from asyncrl.experience.rollout import Ticket

TICKET = Ticket(0, actor=0, version=0, slot=0, step=0)


class Actors:
    """Actors, one of which completes a rollout in the poll after `empty` ones of `seconds` each, on a clock to match."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, empty: int, seconds: float) -> None:
        self._empty, self._seconds, self._now = empty, seconds, 0.0
        monkeypatch.setattr(completed.time, "monotonic", lambda: self._now)

    def receive(self, seconds: float) -> Sequence[Ticket]:
        if not seconds:
            return []
        self._empty, self._now = self._empty - 1, self._now + self._seconds
        return [] if self._empty >= 0 else [TICKET]


def test_actors_that_were_suspended_with_the_run_are_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = CompletedRollouts(Actors(monkeypatch, empty=1, seconds=3_600.0).receive, timeout=300.0)
    assert rollouts.wait_for([TICKET], lambda: False) == [TICKET]


def test_actors_that_are_silent_for_too_long_are_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = CompletedRollouts(Actors(monkeypatch, empty=302, seconds=1.0).receive, timeout=300.0)
    with pytest.raises(ActorDied, match=r"no actor took a step within 300 s; waiting for rollouts 0 \(actor 0\)"):
        rollouts.wait_for([TICKET], lambda: False)


def test_actors_that_take_steps_may_need_as_long_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout of slow environments, or the steps that restore them, can take hours."""
    steps = itertools.count()
    actors = Actors(monkeypatch, empty=10_000, seconds=1.0)
    rollouts = CompletedRollouts(actors.receive, lambda: next(steps), timeout=300.0)
    assert rollouts.wait_for([TICKET], lambda: False) == [TICKET]
