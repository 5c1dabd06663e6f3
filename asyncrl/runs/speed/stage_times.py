"""Where the time of a run's actors and learner goes, between any two moments."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from asyncrl.common.hardware import busy_core_seconds
from asyncrl.common.stopwatch import ACTOR_STAGES, LEARNER_STAGES, Processor, Stopwatch, processor_times

__all__ = ["StageMeter", "StageTimes", "Work", "WorkMeter"]

_WORKER_STAGES = (*ACTOR_STAGES, "batch", "forward", "backward", "optimizer", "publish")
"""Stages of an actor; those after `ACTOR_STAGES` are for workers that learn, too (`hogwild.py`)."""
_RECENT = 30
"""Moments that are kept for `StageMeter.recent`."""


@dataclass(frozen=True)
class StageTimes:
    """The times of a part of a run."""

    seconds: float
    """Wall-clock time."""
    steps: int
    """Environment steps learned from."""
    updates: int
    actors: Mapping[str, float]
    """Seconds by stage, summed over the actors."""
    learner: Mapping[str, float]
    """Seconds by stage; {} where every actor learns (hogwild)."""
    rollouts: tuple[int, ...]
    """By actor: rollouts learned from."""
    busy: tuple[float, ...]
    """By actor: seconds of collecting them, without waiting."""
    actors_processor: float
    """Processor seconds of the actors, without threads and processes of their environments."""
    learner_processor: float
    """Processor seconds of the learner's process, without actors in it."""
    delayed: float
    """Seconds in which an actor or the learner was ready to run, but no core was free."""
    busy_cores: float
    """Mean number of busy cores, whichever program keeps them busy."""

    @property
    def actor_shares(self) -> dict[str, float]:
        """Each stage's share of the actors' time."""
        return _shares(self.actors)

    @property
    def learner_shares(self) -> dict[str, float]:
        """Each stage's share of the learner's time."""
        return _shares(self.learner)

    @property
    def rollout_seconds(self) -> tuple[float | None, ...]:
        """By actor: seconds that collecting a rollout takes; None if none was collected."""
        return tuple(busy / made if made else None for busy, made in zip(self.busy, self.rollouts, strict=True))

    def fields(self) -> dict[str, Any]:
        """The fields of a record."""
        shares = {"actors": self.actor_shares, **({"learner": self.learner_shares} if self.learner else {})}
        rounded = {who: {stage: round(share, 4) for stage, share in each.items()} for who, each in shares.items()}
        return {"seconds": round(self.seconds, 3), **rounded, "busy_cores": round(self.busy_cores, 2)}


class Health(NamedTuple):
    """What is known of one actor."""

    steps: int
    """Environment steps learned from since the run began or resumed."""
    restarts: int
    """Environment workers restarted."""
    completed: float | None
    """Time at which its newest rollout was complete, on the clock `perf_counter`."""


class Work(NamedTuple):
    """What a worker of `hogwild.py` did since its last report."""

    seconds: dict[str, float]
    """By stage"""
    processor: Processor
    """Of the worker's thread so far"""
    rollouts: int
    steps: int
    restarts: int
    """Environment workers restarted since the run began or resumed"""
    completed: float
    """Time at which its newest rollout was complete, on the clock `perf_counter`"""


class WorkMeter:
    """Adds up the work of a worker that acts and learns in one thread."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        stopwatch.at = time.perf_counter()
        self._rollouts = self._steps = self._restarts = 0

    def add(self, steps: int, restarts: int) -> None:
        """Add a rollout."""
        self._rollouts, self._steps, self._restarts = self._rollouts + 1, self._steps + steps, restarts

    def take(self) -> Work:
        """Return the work since this was last called."""
        work = Work(
            self._stopwatch.take(), self._stopwatch.processor, self._rollouts, self._steps, self._restarts,
            self._stopwatch.at,
        )  # fmt: skip
        self._rollouts = self._steps = 0
        return work


class _Moment(NamedTuple):
    """Running totals at one moment."""

    clock: float
    steps: int
    updates: int
    learner: np.ndarray
    """[stages] seconds"""
    actors: np.ndarray
    """[A, stages + 3]: seconds by stage, `Processor` times of their threads, rollouts"""
    processor: float
    """Processor seconds of this process"""
    delayed: float
    """`Processor.delayed` of the learner's thread"""
    busy_cores: float
    """Core seconds"""


class StageMeter:
    """Adds up the stages of all actors and of the learner from the first rollouts on: starting up is not counted."""

    def __init__(self, stopwatch: Stopwatch, actors: int, *, concurrent: bool, separate: bool) -> None:
        """`stopwatch`: the learner's. `concurrent`: actors run beside the learner; `separate`: in other processes."""
        self._stopwatch = stopwatch
        self._concurrent, self._separate = concurrent, separate
        self._actors: np.ndarray = np.zeros((actors, len(_WORKER_STAGES) + 3))
        self.health = [Health(0, 0, None)] * actors
        self._steps = self._updates = 0
        self._moments: deque[_Moment] = deque(maxlen=_RECENT)
        self._first: _Moment | None = None
        self._learns_apart = True

    def begin(self, clock: float | None = None) -> None:
        """Start counting, unless that is done: the first rollouts have been collected, now or when `clock` says."""
        if self._first is None:
            self._stopwatch.lap("other")
            now = self._moment()
            self._first = now if clock is None else now._replace(clock=clock)
            self._moments.append(self._first)

    def add_rollout(self, actor: int, timing: Sequence[float], steps: int, restarts: int) -> None:
        """Add a consumed rollout with its `Rollout.timing`."""
        *seconds, used, delayed, completed = timing
        self.health[actor] = Health(self.health[actor].steps + steps, restarts, completed or None)
        row = self._actors[actor]
        row[-3:-1] = used, delayed
        if self._first is not None:
            row[: len(seconds)] += seconds
            row[-1] += 1

    def add_worker(self, actor: int, work: Work) -> None:
        """Add what a worker that acts and learns did since it was last added."""
        self._learns_apart = False
        self.health[actor] = Health(self.health[actor].steps + work.steps, work.restarts, work.completed)
        row = self._actors[actor]
        row[-3:-1] = work.processor
        if self._first is not None:
            row[:-3] += [work.seconds.get(stage, 0.0) for stage in _WORKER_STAGES]
            row[-1] += work.rollouts

    def updated(self, update: int, step: int) -> None:
        """Set the numbers of updates and steps."""
        self._updates, self._steps = update, step

    @property
    def learner_seconds(self) -> dict[str, float]:
        """The learner's seconds by stage so far."""
        return {stage: self._stopwatch.seconds.get(stage, 0.0) for stage in LEARNER_STAGES}

    @property
    def since_mark(self) -> float:
        """Seconds since the last `mark`."""
        return time.perf_counter() - self._moments[-1].clock if self._moments else 0.0

    def mark(self) -> StageTimes | None:
        """The times since the last `mark`; None before the first rollouts."""
        if not self._moments:
            return None
        now, last = self._moment(), self._moments[-1]
        self._moments.append(now)
        return self._between(last, now)

    def recent(self) -> StageTimes:
        """The times of the last 30 marks. Needs a `mark`."""
        return self._between(self._moments[0], self._moments[-1])

    def total(self) -> StageTimes | None:
        """The times since the first rollouts; None before them."""
        return None if self._first is None else self._between(self._first, self._moment())

    def _moment(self) -> _Moment:
        learner = np.array(list(self.learner_seconds.values()))
        return _Moment(
            time.perf_counter(), self._steps, self._updates, learner, self._actors.copy(),
            time.process_time(), processor_times().delayed, busy_core_seconds(),
        )  # fmt: skip

    def _between(self, start: _Moment, end: _Moment) -> StageTimes:
        elapsed = max(end.clock - start.clock, 1e-9)
        actors = end.actors - start.actors
        waiting = ACTOR_STAGES.index("waiting")
        busy = actors[:, :-3].sum(1) - actors[:, waiting]
        sums = dict(zip(_WORKER_STAGES, actors[:, :-3].sum(0).tolist(), strict=True))
        if self._learns_apart:
            sums = {stage: sums[stage] for stage in ACTOR_STAGES}
        if not self._concurrent:  # one thread: an actor that does not act waits for all others
            sums["waiting"] = max(0.0, elapsed - float(busy.sum()))
        own = end.processor - start.processor
        acting, delayed = actors[:, -3:-1].sum(0).tolist()
        if not self._concurrent:  # they share a thread with the learner
            acting, delayed = own * min(1.0, float(busy.sum()) / elapsed), 0.0
        return StageTimes(
            seconds=elapsed,
            steps=end.steps - start.steps,
            updates=end.updates - start.updates,
            actors=sums,
            learner=dict(zip(LEARNER_STAGES, (end.learner - start.learner).tolist(), strict=True))
            if self._learns_apart
            else {},
            rollouts=tuple(int(count) for count in actors[:, -1]),
            busy=tuple(busy.tolist()),
            actors_processor=acting,
            learner_processor=own if self._separate else max(0.0, own - acting),
            delayed=delayed + end.delayed - start.delayed,
            busy_cores=(end.busy_cores - start.busy_cores) / elapsed,
        )


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Divide by the sum."""
    total = sum(seconds.values())
    return {stage: value / total if total else 0.0 for stage, value in seconds.items()}
