"""Statistics of a run: episodes, rates, policy lag, and where the time goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.hardware import usable_cores
from asyncrl.common.statistics import summarize
from asyncrl.common.stopwatch import Stopwatch
from asyncrl.experience import Experience
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.monitor import Record
from asyncrl.runs.speed.stage_times import StageMeter, StageTimes
from asyncrl.runs.speed.verdict import Verdict

__all__ = ["Episode", "EpisodeCounter", "RunStatistics"]

_LEARNING = ("batch", "forward", "backward", "optimizer")
"""Stages of an update."""
WINDOW = 100
"""Episodes in the running mean of returns."""


class Episode(NamedTuple):
    """One finished episode."""

    score: float
    """Return of the environment's own rewards"""
    length: int
    """Environment steps"""
    actor: int
    env: int


class EpisodeCounter:
    """Sums the rewards of one actor's environments over their episodes."""

    def __init__(self, actor: int, envs: int) -> None:
        self._actor = actor
        self._return, self._length = np.zeros(envs), np.zeros(envs, dtype=np.int64)

    def finished(self, rollout: Rollout) -> list[Episode]:
        """Add the actor's next rollout; returns the episodes that ended in it."""
        found = []
        if rollout.starts_reset:
            self.restore(np.zeros_like(self._return), np.zeros_like(self._length))
        rewards, valid, done = rollout.reward.numpy(), rollout.valid.numpy(), rollout.done.numpy()
        for t in range(len(rewards)):
            self._return += rewards[t] * valid[t]
            self._length += valid[t]
            for env in np.flatnonzero(done[t]):
                found.append(Episode(float(self._return[env]), int(self._length[env]), self._actor, int(env)))
                self._return[env], self._length[env] = 0, 0
        return found

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """[B] return and length so far of the unfinished episodes; `restore` is the inverse."""
        return self._return.copy(), self._length.copy()

    def restore(self, score: np.ndarray, length: np.ndarray) -> None:
        """Continue from a saved `state`."""
        self._return, self._length = score.copy(), length.copy()


class RunStatistics:
    """Collects the updates since the last record. Returns are those of the environments, not clipped or scaled."""

    def __init__(
        self,
        experience: Experience,
        actors: Sequence[str],
        envs: int,
        frame_skip: int,
        slots: int,
        seconds: float = 0.0,
        stages: StageMeter | None = None,
    ) -> None:
        """`actors`: the environment id of each actor; `slots`: the size of the rollout queue; `stages`: None for one of
        actors and a learner that share a thread.
        """
        self.stages = stages or StageMeter(Stopwatch(), len(actors), concurrent=False, separate=False)
        self._experience = experience
        self._actors = actors
        self._counters = [EpisodeCounter(actor, envs) for actor in range(len(actors))]
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._windows = {env: deque[float](maxlen=WINDOW) for env in actors}
        self._frame_skip = frame_skip
        self._slots = slots
        self._began = time.monotonic() - seconds
        self._restarts = [0] * len(actors)
        self._update = self._step = 0
        self._actions: np.ndarray = np.zeros(0, dtype=np.int64)
        self.episodes = 0
        self._metrics: Mapping[str, Tensor | float] = {}
        self._reset()

    def state(self) -> dict[str, Tensor]:
        """[A, B] return and length so far of the unfinished episodes."""
        scores, lengths = zip(*(counter.state() for counter in self._counters), strict=True)
        return {"return": torch.from_numpy(np.stack(scores)), "length": torch.from_numpy(np.stack(lengths))}

    def restore(self, update: int, step: int, records: Iterable[Record], state: Mapping[str, Tensor]) -> None:
        """Continue at `update`, given the run's earlier records and its saved `state` ({} if there is none)."""
        self._update, self._step = update, step
        if state:
            for counter, score, length in zip(self._counters, state["return"], state["length"], strict=True):
                counter.restore(score.numpy(), length.numpy())
        for record in records:
            if record["kind"] == "episode" and record["actor"] < len(self._actors):
                self.episodes += 1
                self._window.append(record["return"])
                self._windows[self._actors[record["actor"]]].append(record["return"])
        self._reset()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run, earlier parts of a resumed run included."""
        return time.monotonic() - self._began

    def consume(self, update: int, rollouts: Mapping[Ticket, Rollout], waiting: int) -> list[Episode]:
        """Add the rollouts that `update` learns from, while `waiting` more are ready. Returns the episodes that ended."""
        episodes, lags = [], []
        for ticket, rollout in rollouts.items():
            lags.append(update - int(rollout.stamp[2]))
            self._restarts[ticket.actor] = restarts = int(rollout.restarts)
            self.stages.add_rollout(ticket.actor, rollout.timing.tolist(), self._experience.count(rollout), restarts)
            episodes += self._counters[ticket.actor].finished(self._experience.without_overlap(rollout))
        self.stages.begin()
        self._queue.append(waiting)
        self._count_actions(rollouts.values())
        self.add_episodes(episodes, lags)
        return episodes

    def _count_actions(self, rollouts: Iterable[Rollout]) -> None:
        """Count the choices taken. Actions with several parts and continuous actions are not counted."""
        for rollout in rollouts:
            if rollout.action.dim() == 2:
                taken = np.bincount(rollout.action[rollout.valid].numpy(), minlength=len(self._actions))
                taken[: len(self._actions)] += self._actions
                self._actions = taken

    def add_episodes(self, episodes: Sequence[Episode], lags: Sequence[int]) -> None:
        """Add episodes that ended and the policy lags of rollouts that were learned from."""
        self._lags += lags
        self.episodes += len(episodes)
        for episode in episodes:
            self._window.append(episode.score)
            self._windows[self._actors[episode.actor]].append(episode.score)

    def updated(self, update: int, step: int, metrics: Mapping[str, Tensor | float]) -> None:
        """Set the numbers of updates and steps, and the newest metrics, which stay on their device until `record`."""
        self._update, self._step, self._metrics = update, step, metrics
        self.stages.updated(update, step)

    def records(self, episodes: Iterable[Episode]) -> list[Record]:
        """The records of finished episodes."""
        return [
            self._record("episode", **{"return": e.score}, length=e.length, **self._origin(e.actor), env=e.env)
            for e in episodes
        ]

    def _origin(self, actor: int) -> dict[str, Any]:
        """The actor, and its environment if the run has several."""
        return {"actor": actor} | ({"environment": self._actors[actor]} if len(self._windows) > 1 else {})

    def record(self) -> Record:
        """The record of the updates since the last such record."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        rate = (self._step - self._step_since) / elapsed
        record = self._record(
            "train",
            steps_per_second=round(rate, 1),
            frames_per_second=round(rate * self._frame_skip, 1),
            episodes=self.episodes,
            mean_return=round(float(np.mean(self._window)), 4) if self._window else None,
            **self._each({env: float(np.mean(scores)) for env, scores in self._windows.items() if scores}),
            policy_lag=round(float(np.mean(self._lags)), 3) if self._lags else None,
            policy_lag_max=int(max(self._lags, default=0)),
            queue_fill=round(float(np.mean(self._queue)) / self._slots, 4) if self._queue else None,
            actions=[round(float(x), 4) for x in self._actions / max(1, self._actions.sum())] or None,
            **({"worker_restarts": sum(self._restarts)} if any(self._restarts) else {}),
            **(self._learner_shares(elapsed) if self._queue else {}),
            **{name: float(f"{float(value):.6g}") for name, value in self._metrics.items()},
        )
        self._reset()
        return record

    def _learner_shares(self, elapsed: float) -> dict[str, float]:
        """The shares of the last `elapsed` seconds in which the learner waited and learned."""
        now = self.stages.learner_seconds
        spent = {stage: now[stage] - self._learner_seconds[stage] for stage in now}
        learning = sum(spent[stage] for stage in _LEARNING)
        return {"waiting_share": round(spent["waiting"] / elapsed, 4), "learning_share": round(learning / elapsed, 4)}

    def staged(self, times: StageTimes, verdict: Verdict) -> Record:
        """The record of where the time went, and of how each actor is."""
        now, health = time.perf_counter(), self.stages.health
        return self._record(
            "stages",
            **times.fields(),
            actor_steps=[one.steps for one in health],
            actor_restarts=[one.restarts for one in health],
            actor_idle=[None if one.completed is None else round(max(0.0, now - one.completed), 3) for one in health],
            actor_rollout_seconds=[None if one is None else round(one, 6) for one in times.rollout_seconds],
            bottleneck=verdict.bottleneck,
            verdict=verdict.sentence,
        )

    def judged(self, times: StageTimes | None, verdict: Verdict) -> Record:
        """The record of the verdict on the whole run, or on the part of it since it was resumed."""
        fields = {"seconds": 0.0, "actors": {}, "learner": {}, "busy_cores": 0.0} if times is None else times.fields()
        return self._record("verdict", **fields, cores=round(usable_cores(), 2), **verdict.fields())

    def _record(self, kind: str, **values: Any) -> Record:
        return {"step": self._step, "update": self._update, "time": round(self.seconds, 3), "kind": kind, **values}

    def evaluated(
        self, returns: Iterable[float], mode: str, means: Mapping[str, float], measures: Mapping[str, float]
    ) -> Record:
        """The record of an evaluation, with mean returns by environment and the means of other measures."""
        values = list(returns)
        rounded = {name: round(mean, 4) for name, mean in measures.items()}
        extra = {"measures": rounded} if rounded else {}
        return self._record("eval", mode=mode, **summarize(values), **self._each(means), **extra, returns=values)

    def rewound(self, number: int, diverged: int, learning_rate: float, reason: str) -> Record:
        """The record of the `number`th rewind to the current step, after the run diverged at step `diverged`."""
        return self._record("rewind", number=number, diverged=diverged, learning_rate=learning_rate, reason=reason)

    def recorded_video(self, video: str, animation: str, score: float, length: int) -> Record:
        """The record of a video of an episode: the names of its files in `videos/`, and its return and length."""
        files = {"video": f"videos/{video}", "animation": f"videos/{animation}"}
        return self._record("video", **files, **{"return": score}, length=length)

    def stopped(self, reason: str) -> Record:
        """The record of a run that ends before taking all its steps."""
        return self._record("stop", reason=reason)

    def lost(self, actor: int, rollout: int | None, reason: str) -> Record:
        """The record of an actor that was lost and continues in a new process, from `rollout` on."""
        return self._record("lost", actor=actor, rollout=rollout, reason=reason)

    def _each(self, means: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Means by environment, if the run has several."""
        return {"means": {env: round(mean, 4) for env, mean in means.items()}} if len(self._windows) > 1 else {}

    def _reset(self) -> None:
        self._since, self._step_since = time.monotonic(), self._step
        self._lags: list[int] = []
        self._actions = np.zeros(0, dtype=np.int64)
        self._queue: list[int] = []
        self._learner_seconds = self.stages.learner_seconds
        self._metrics = {}
