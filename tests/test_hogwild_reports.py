"""Waiting for the reports of hogwild's workers ends where one is silent, and not where it takes steps or was suspended."""

from __future__ import annotations

import itertools
import signal
import time
from typing import Any, cast

import pytest
import torch

from asyncrl import hogwild
from asyncrl.common.signals import StopRequest
from asyncrl.common.stopwatch import Processor
from asyncrl.errors import ActorDied
from asyncrl.hogwild import WorkerReport
from asyncrl.runs.speed.stage_times import Work


class Few:
    """Workers that send given reports."""

    def __init__(self, *words: list[WorkerReport]) -> None:
        self._words = iter(words)
        self.asked: list[int] = []

    def receive(self, seconds: float) -> list[WorkerReport]:
        return next(self._words, [])

    def send(self, index: int, message: None) -> None:
        self.asked.append(index)


def acted() -> torch.Tensor:
    """Counts of the steps of two workers."""
    return torch.zeros(2, dtype=torch.int64)


NOTHING = Work({}, Processor(0, 0), rollouts=0, steps=0, restarts=0, completed=0)
FINAL = [WorkerReport(worker, [], [], {}, NOTHING, final=True) for worker in (0, 1)]


def test_who_is_silent_for_too_long_is_named_even_while_others_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = FINAL
    workers: Any = Few([first], [], [second])
    assert list(hogwild._reports(workers, acted(), StopRequest())) == [[first], [], [second]]
    assert workers.asked == []
    monkeypatch.setattr(hogwild, "TIMEOUT", -1.0)
    workers = Few([first])
    with pytest.raises(ActorDied, match="actor 1 took no step within"):
        list(hogwild._reports(workers, acted(), StopRequest()))


def test_a_worker_whose_rollout_takes_long_is_not_taken_for_dead_while_it_takes_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hogwild, "TIMEOUT", 1_000.0)
    counts, workers = acted(), cast(Any, Few(*[[]] * 2_000, FINAL))
    hours = itertools.count(step=2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    seen = 0
    for reports in hogwild._reports(workers, counts, StopRequest()):
        counts += 1
        seen += len(reports)
    assert seen == 2


def test_workers_that_were_suspended_with_the_run_are_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3_600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    workers: Any = Few([], FINAL)
    assert list(hogwild._reports(workers, acted(), StopRequest())) == [[], FINAL]


def test_a_run_that_is_stopped_does_not_wait_for_a_worker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = FINAL
    stop = StopRequest()
    stop.signal = signal.SIGTERM
    workers: Any = Few([second], [], [first])
    assert list(hogwild._reports(workers, acted(), stop)) == [[second], [], [first]]
    assert workers.asked == [0, 1]
    monkeypatch.setattr(hogwild, "_END_TIMEOUT", -1.0)
    workers = Few([second])
    assert list(hogwild._reports(workers, acted(), stop)) == [[second]]
