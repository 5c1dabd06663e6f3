"""What a run says of itself: episodes, rates, policy lag, and where the learner's time goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from asyncrl.rollout import Rollout, Ticket

__all__ = ["Record", "Statistics", "iqm", "summary"]

Record = dict[str, Any]
"""One line of metrics.jsonl."""

WINDOW = 100
"""Episodes in the running mean of returns."""


class Statistics:
    """Gathers over the updates since the last record; returns are the environments' own, unclipped."""

    def __init__(
        self, actors: int, envs: int, steps_per_update: int, frame_skip: int, slots: int, seconds: float = 0.0
    ) -> None:
        self._return = np.zeros((actors, envs))
        self._length = np.zeros((actors, envs), dtype=np.int64)
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._steps_per_update, self._frame_skip, self._slots = steps_per_update, frame_skip, slots
        self._began = time.monotonic() - seconds
        self.episodes = 0
        self._metrics: Mapping[str, Tensor] = {}
        self._reset()

    def restore(self, records: Iterable[Record]) -> None:
        """Go on from the records of the run's earlier part."""
        for record in records:
            if record["kind"] == "episode":
                self.episodes += 1
                self._window.append(record["return"])

    @property
    def seconds(self) -> float:
        """Since the run began, earlier parts of a resumed run counted in."""
        return time.monotonic() - self._began

    @contextmanager
    def time(self, stage: str) -> Any:
        """Count the time inside to `stage`."""
        began = time.monotonic()
        yield
        self._stages[stage] = self._stages.get(stage, 0.0) + time.monotonic() - began

    def consume(self, update: int, rollouts: Mapping[Ticket, Rollout], waiting: int) -> list[Record]:
        """Note the rollouts that `update` learns from; `waiting` more are ready. Returns finished episodes."""
        episodes = []
        for ticket, rollout in rollouts.items():
            rollout.check(ticket)
            self._lags.append(update - int(rollout.stamp[2]))
            episodes += self._finished(update, ticket, rollout)
        self._queue.append(waiting)
        return episodes

    def _finished(self, update: int, ticket: Ticket, rollout: Rollout) -> list[Record]:
        found = []
        totals, lengths = self._return[ticket.actor], self._length[ticket.actor]
        rewards, valid, over = rollout.reward.numpy(), rollout.valid.numpy(), rollout.over.numpy()
        for t in range(len(rewards)):
            totals += rewards[t] * valid[t]
            lengths += valid[t]
            for env in np.flatnonzero(over[t]):
                score = float(totals[env])
                found.append(
                    self._record(
                        update, "episode", **{"return": score}, length=int(lengths[env]), actor=ticket.actor, env=int(env)
                    )
                )
                self._window.append(score)
                totals[env], lengths[env] = 0, 0
        self.episodes += len(found)
        return found

    def updated(self, metrics: Mapping[str, Tensor]) -> None:
        """Note one update's metrics; they stay on their device until a record is made."""
        self._metrics = metrics
        self._updates += 1

    def record(self, update: int) -> Record:
        """The record of the updates since the last one."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        rate = self._updates * self._steps_per_update / elapsed
        record = self._record(
            update,
            "train",
            steps_per_second=round(rate, 1),
            frames_per_second=round(rate * self._frame_skip, 1),
            episodes=self.episodes,
            mean_return=round(float(np.mean(self._window)), 4) if self._window else None,
            policy_lag=round(float(np.mean(self._lags)), 3) if self._lags else None,
            policy_lag_max=int(max(self._lags, default=0)),
            queue_fill=round(float(np.mean(self._queue)) / self._slots, 4) if self._queue else None,
            **{f"{stage}_share": round(seconds / elapsed, 4) for stage, seconds in self._stages.items()},
            **{name: float(f"{float(value):.6g}") for name, value in self._metrics.items()},
        )
        self._reset()
        return record

    def _record(self, update: int, kind: str, **values: Any) -> Record:
        step = update * self._steps_per_update
        return {"step": step, "update": update, "time": round(self.seconds, 3), "kind": kind, **values}

    def evaluated(self, update: int, returns: Iterable[float], mode: str) -> Record:
        """The record of an evaluation."""
        values = list(returns)
        return self._record(update, "eval", mode=mode, **summary(values), returns=values)

    def _reset(self) -> None:
        self._since = time.monotonic()
        self._updates = 0
        self._lags: list[int] = []
        self._queue: list[int] = []
        self._stages: dict[str, float] = {}
        self._metrics = {}


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean along the last axis: the mean of the middle half (Agarwal et al. 2021).

    A quarter of the weight is cut off at each end; where that is no whole number of values, the
    outermost of those that remain count in part.
    """
    values = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = values.shape[-1]
    edges = np.arange(n + 1) / n
    weight = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    return np.asarray((values * weight).sum(-1) / weight.sum())


def summary(returns: list[float], resamples: int = 10_000) -> dict[str, Any]:
    """mean, std, median, iqm and its bootstrap 95 % interval over episodes, episodes."""
    values = np.asarray(returns, dtype=np.float64)
    random = np.random.default_rng(0)
    resampled = iqm(random.choice(values, (resamples, len(values))))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "median": float(np.median(values)),
        "iqm": float(iqm(values)),
        "iqm_interval": [float(low), float(high)],
        "episodes": len(values),
    }
