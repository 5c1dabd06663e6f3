"""A vector environment in worker processes that restarts environments that crash, hang or leak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from asyncrl.common.quoting import quoted
from asyncrl.envs.infos import batched
from asyncrl.envs.options import Supervision
from asyncrl.envs.seeding import each_seed, next_seed, unpredictable_seeds
from asyncrl.envs.supervision import capsule
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.envs.supervision.worker_process import Deadline, Failed, WorkerPool
from asyncrl.errors import EnvironmentFault

__all__ = ["SupervisedVectorEnv"]

_CLOSE_TIMEOUT = 5.0
"""Seconds that workers have to close their environments before they are killed."""

_STEPS_PER_MEMORY_CHECK = 100


@dataclass
class _Episode:
    """The current episode of one environment, with everything that a replay needs."""

    seed: int
    options: dict[str, Any] | None = None
    """Options of the reset, which only the first episode may have."""
    actions: list[Any] = field(default_factory=list)
    has_ended: bool = False
    """Whether the next step resets."""

    def next(self) -> _Episode:
        return _Episode(next_seed(self.seed))


class SupervisedVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` environments, each in its own worker process, with next-step autoreset.

    Results equal those of SyncVectorEnv over environments with `EpisodeSeeding`: the seed of each episode follows from
    the previous one. An environment's state is therefore a function of the episode's seed and actions, and a failed
    worker can be replaced by one that replays them.

    A worker fails if its environment raises an exception, or if its process dies, hangs or exceeds the memory limit. A
    new worker replays the episode and, if it ends with the last observation seen, retries the step; the caller notices
    nothing. If the retry fails or the observation differs, the episode is truncated: the step returns the last
    observation again, reward 0, `truncated` and the info `restarted`. A reset that fails twice takes the next episode's
    seed. EnvironmentFault is raised when no restarts are left, and at once for an environment that breaks Gymnasium's
    interface (`CheckedEnv`). Every failure leaves a crash capsule.

    Actions are cast to the dtype of their space.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        num_envs: int,
        *,
        contract: dict[str, Any],
        supervision: Supervision | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """`seeds`, one per environment, seed the random generators that constructors draw from."""
        self.num_envs = num_envs
        self.restarted = 0
        """Number of restarts so far."""
        self.capsules: list[Path] = []
        """Crash capsules written so far."""
        self._contract = contract
        self._supervision = supervision or Supervision()
        self._pool = WorkerPool(make, num_envs, seeds)
        self._workers = [self._pool.start(row) for row in range(num_envs)]
        try:
            readies = [worker.ready(self._supervision.step_timeout) for worker in self._workers]
        except Failed as problem:
            self.close()
            raise EnvironmentFault(problem.failure.what, problem.failure.traceback) from None
        ready = readies[0]
        for other in readies[1:]:
            if (other.observation_space, other.action_space) != (ready.observation_space, ready.action_space):
                self.close()
                raise EnvironmentFault("has different spaces each time it is made; all copies need the same spaces")
        self._pool.open(ready)
        self._buffers = self._pool.buffers
        self.metadata = {**ready.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = ready.render_mode
        self.single_observation_space = ready.observation_space
        self.single_action_space = ready.action_space
        self.observation_space = batch_space(ready.observation_space, num_envs)
        self.action_space = batch_space(ready.action_space, num_envs)
        self._episodes: list[_Episode] = []
        self._buffer = 0
        """Index of the observation buffer that holds the newest observations."""
        self._steps = 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes. An int seeds environment i with ``seed + i``; None takes the next episodes' seeds.

        Environments outside the option `reset_mask`, [B] bool, keep their state. Returns observations [B, *O] and
        infos, one array per name.
        """
        seeds = each_seed(seed, self.num_envs)
        env_options = dict(options or {})
        mask = env_options.pop("reset_mask", None)
        chosen = range(self.num_envs) if mask is None else [int(i) for i in np.flatnonzero(mask)]
        new = {i: self._new_episode(i, None if seeds is None else seeds[i], env_options or None) for i in chosen}
        self._episodes = [new[i] if i in new else self._episodes[i] for i in range(self.num_envs)]
        self._buffer ^= 1
        self._buffers.observation[self._buffer] = self._buffers.observation[1 - self._buffer]
        for i in chosen:
            self._send_reset(i)
        infos: dict[int, dict[str, Any]] = {}
        deadline = self._deadline()
        for i in chosen:
            try:
                infos[i] = self._receive(i, deadline)
            except Failed as problem:
                infos[i] = self._retry_reset(i, problem.failure)
        return self._observations(), batched(infos, self.num_envs)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment once, or reset it if its episode has ended.

        Returns observations [B, *O], rewards [B] float64, terminated and truncated [B] bool, and the infos.
        """
        if not self._episodes:
            raise gymnasium.error.ResetNeeded("step was called before reset")
        self._buffer ^= 1
        self._steps += 1
        for i, action in enumerate(self._copies(actions)):
            if self._episodes[i].has_ended:
                self._episodes[i] = self._episodes[i].next()
                self._send_reset(i)
            else:
                self._episodes[i].actions.append(action)
                self._workers[i].send_step(self._buffer, action)
        infos: dict[int, dict[str, Any]] = {}
        deadline = self._deadline()
        for i, episode in enumerate(self._episodes):
            try:
                info = self._receive(i, deadline)
            except Failed as problem:
                info = self._retry_step(i, problem.failure) if episode.actions else self._retry_reset(i, problem.failure)
            episode = self._episodes[i]
            episode.has_ended = bool(self._buffers.terminated[i] or self._buffers.truncated[i])
            if self._supervision.memory_limit is not None:
                info = self._check_memory(i, info)
            if info:
                infos[i] = info
        buffers = self._buffers
        batch = batched(infos, self.num_envs) if infos else {}
        return self._observations(), buffers.reward.copy(), buffers.terminated.copy(), buffers.truncated.copy(), batch

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers. Environments have five seconds to close."""
        for worker in self._workers:
            worker.close()
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for worker in self._workers:
            worker.join(deadline)
        self._pool.close()

    def __del__(self) -> None:
        if not self.closed and hasattr(self, "_workers"):
            self.close()

    @property
    def seeds_and_steps(self) -> np.ndarray:
        """[2, B] int64: the seed of each environment's episode and its steps so far."""
        return np.array([(episode.seed, len(episode.actions)) for episode in self._episodes]).T

    def _new_episode(self, i: int, seed: int | None, options: dict[str, Any] | None) -> _Episode:
        if seed is not None:
            episode = _Episode(int(seed))
        elif self._episodes:
            episode = self._episodes[i].next()
        else:
            episode = _Episode(unpredictable_seeds(1)[0])
        episode.options = options
        return episode

    def _copies(self, actions: Any) -> list[Any]:
        """Return a copy of each environment's action, in the dtype of the action space."""
        if not self._buffers.shares_action:
            return list(iterate(self.action_space, deepcopy(actions)))
        expected = self._buffers.action
        if np.shape(actions) != expected.shape:
            raise ValueError(f"actions have the shape {np.shape(actions)}, not {expected.shape}")
        return list(np.asarray(actions).astype(expected.dtype, casting="same_kind", copy=True))

    def _observations(self) -> Any:
        newest = self._buffers.observation[self._buffer]
        if self._buffers.shares_observation:
            return newest.copy()
        space = self.single_observation_space
        batch: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, list(newest), batch)

    def _deadline(self) -> Deadline:
        return Deadline(self._supervision.step_timeout)

    def _send_reset(self, i: int) -> None:
        self._workers[i].send_reset(self._buffer, self._episodes[i].seed, self._episodes[i].options)

    def _receive(self, i: int, deadline: Deadline | None = None) -> dict[str, Any]:
        return self._workers[i].receive(self._buffer, deadline or self._deadline())

    def _retry_step(self, i: int, failure: Failure) -> dict[str, Any]:
        """Retry a failed step in a new worker, or truncate the episode; returns the info."""
        *past, action = self._episodes[i].actions
        self._restart(i, failure)
        try:
            if self._replay(i, past):
                self._workers[i].send_step(self._buffer, action)
                return self._receive(i)
        except Failed as problem:
            self._restart(i, problem.failure)
        buffers = self._buffers
        buffers.observation[self._buffer, i] = buffers.observation[1 - self._buffer, i]
        buffers.reward[i] = 0.0
        buffers.terminated[i] = False
        buffers.truncated[i] = True
        return {"restarted": True}

    def _retry_reset(self, i: int, failure: Failure) -> dict[str, Any]:
        """Reset in a new worker with the same seed, then with the following ones; returns the info."""
        while True:
            self._restart(i, failure)
            try:
                self._send_reset(i)
                return self._receive(i)
            except Failed as problem:
                failure = problem.failure
                self._episodes[i] = self._episodes[i].next()

    def _check_memory(self, i: int, info: dict[str, Any]) -> dict[str, Any]:
        """Replace a worker that exceeds the memory limit; truncate the episode if its successor cannot continue it."""
        episode, buffers = self._episodes[i], self._buffers
        if not episode.has_ended and self._steps % _STEPS_PER_MEMORY_CHECK:
            return info
        failure = self._workers[i].memory_failure(self._supervision.memory_limit)
        if failure is None:
            return info
        self._restart(i, failure)
        if episode.has_ended:
            return info
        reward = buffers.reward[i].copy()
        self._buffer ^= 1  # the replay must not overwrite this step's observation
        try:
            continues = self._replay(i, episode.actions)
            failure = self._workers[i].memory_failure(self._supervision.memory_limit)
            if failure is not None:
                raise Failed(failure)
        except Failed as problem:
            continues = False
            self._restart(i, problem.failure)
        self._buffer ^= 1
        buffers.reward[i] = reward
        buffers.terminated[i] = False
        buffers.truncated[i] = not continues
        episode.has_ended = not continues
        return info if continues else {**info, "restarted": True}

    def _restart(self, i: int, failure: Failure) -> None:
        """Replace a worker and wait until the environment is made. Raises EnvironmentFault when no restarts are left."""
        while True:
            self._workers[i].kill()
            note = self._report(i, failure)
            if failure.kind is FailureKind.CONTRACT:
                raise self._fault(i, failure, note)
            if self.restarted >= self._supervision.restarts:
                raise self._fault(i, failure, f"after {self.restarted} restarts", note)
            self.restarted += 1
            self._workers[i] = self._pool.start(i)
            try:
                self._workers[i].ready(self._supervision.step_timeout)
                return
            except Failed as problem:
                failure = problem.failure

    def _replay(self, i: int, actions: Sequence[Any]) -> bool:
        """Replay an episode in a new worker; returns whether it ends with the last observation seen. Raises Failed."""
        buffers = self._buffers
        self._send_reset(i)
        self._receive(i)
        for action in actions:
            self._workers[i].send_step(self._buffer, action)
            self._receive(i)
            if buffers.terminated[i] or buffers.truncated[i]:
                return False
        return _same(buffers.observation[self._buffer, i], buffers.observation[1 - self._buffer, i])

    def _report(self, i: int, failure: Failure) -> str:
        """Write a crash capsule; returns the command that replays it, or why there is none."""
        episode, supervision = self._episodes[i], self._supervision
        if supervision.capsules is None:
            return ""
        try:
            path = capsule.write(
                supervision.capsules,
                self._contract,
                seed=episode.seed,
                options=episode.options,
                actions=episode.actions,
                action_space=self.single_action_space,
                failure=failure,
                memory_limit=supervision.memory_limit,
            )
        except (OSError, TypeError, ValueError, KeyError) as problem:
            return f"no crash capsule: {problem}"  # must not hide the failure itself
        self.capsules.append(path)
        return f"asyncrl repro {quoted(path)}"

    def _fault(self, i: int, failure: Failure, *notes: str) -> EnvironmentFault:
        episode = self._episodes[i]
        place = f"in step {len(episode.actions)} of the episode with seed {episode.seed}"
        return EnvironmentFault(f"{failure.what} ({'; '.join(filter(None, [place, *notes]))})", failure.traceback)


def _same(one: Any, other: Any) -> bool:
    """Return whether two observations of any space are equal."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))
