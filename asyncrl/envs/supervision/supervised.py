"""Environments in worker processes that may crash, hang or leak: what fails is started again where it was."""

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

from asyncrl.envs.infos import batched
from asyncrl.envs.options import Supervision
from asyncrl.envs.seeding import next_seed
from asyncrl.envs.supervision import capsule
from asyncrl.envs.supervision.worker import Failure, FailureKind
from asyncrl.envs.supervision.worker_process import Failed, WorkerPool
from asyncrl.errors import EnvironmentFault

__all__ = ["SupervisedVectorEnv"]

_FAREWELL = 5.0
"""Seconds that workers have to close their environments; then they are killed."""

_STEPS_BETWEEN_WEIGHINGS = 100


@dataclass
class _Episode:
    """An environment's episode: all that is needed to come where it is."""

    seed: int
    """What it is reset with."""
    options: dict[str, Any] | None = None
    """The reset's options; only the first episode has any."""
    actions: list[Any] = field(default_factory=list)
    is_over: bool = False
    """The next step resets."""

    def next(self) -> _Episode:
        return _Episode(next_seed(self.seed))


class SupervisedVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` environments in a worker process each, next-step autoreset.

    It gives what SyncVectorEnv gives of environments with `EpisodeSeeding`: every episode is reset with a seed
    that follows from the one before. So what an environment does depends on its seed and actions alone, and a worker that
    failed can be replaced by one that is reset with the episode's seed and repeats its actions.

    A worker fails if its environment raises, if it dies, hangs, or grows too large. A new one then plays the episode
    again and, if it sees exactly what was seen last, tries the step anew; whoever steps the environments notices
    nothing. If that fails too, or the new worker sees something else, the episode is truncated: the step gives the last
    observation once more, reward 0, `truncated`, and the info `restarted`. A reset that fails twice takes the next
    episode's seed. When the budget of restarts is used up, and at once where an environment breaks Gymnasium's interface
    (`CheckedEnv`), the failure is raised as EnvironmentFault. Every failure leaves a crash capsule.

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
        """`seeds`, one per environment: what their constructors draw follows from them."""
        self.num_envs, self.restarted = num_envs, 0
        self.capsules: list[Path] = []
        """The crash capsules that were written."""
        self._contract, self._supervision = contract, supervision or Supervision()
        self._place = WorkerPool(make, num_envs, seeds)
        self._workers = [self._place.start(row) for row in range(num_envs)]
        try:
            readies = [worker.ready(self._supervision.step_timeout) for worker in self._workers]
        except Failed as problem:
            self.close()
            raise EnvironmentFault(problem.failure.what, problem.failure.traceback) from None
        ready = readies[0]
        for other in readies[1:]:
            if (other.observation_space, other.action_space) != (ready.observation_space, ready.action_space):
                self.close()
                raise EnvironmentFault("has other spaces each time it is made; they must be the same in all copies")
        self._place.open(ready)
        self._board = self._place.buffers
        self.metadata = {**ready.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.render_mode = ready.render_mode
        self.single_observation_space, self.single_action_space = ready.observation_space, ready.action_space
        self.observation_space = batch_space(ready.observation_space, num_envs)
        self.action_space = batch_space(ready.action_space, num_envs)
        self._episodes: list[_Episode] = []
        self._buffer, self._steps = 0, 0

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes. An int seeds environment i with ``seed + i``; None goes on with the next episodes.

        The option `reset_mask`, [B] bool, says in which environments; the others stay as they are. Returns the
        observations, [B, *O], and the infos, an array per name.
        """
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"seeds are one per environment: {self.num_envs}, not {len(seeds)}")
        own = dict(options or {})
        mask = own.pop("reset_mask", None)
        chosen = range(self.num_envs) if mask is None else [int(i) for i in np.flatnonzero(mask)]
        begun = {i: self._begun(i, None if seeds is None else seeds[i], own or None) for i in chosen}
        self._episodes = [begun[i] if i in begun else self._episodes[i] for i in range(self.num_envs)]
        self._buffer ^= 1
        self._board.observation[self._buffer] = self._board.observation[1 - self._buffer]
        for i in chosen:
            self._send_reset(i)
        infos: dict[int, dict[str, Any]] = {}
        deadline = self._deadline()
        for i in chosen:
            try:
                infos[i] = self._receive(i, deadline)
            except Failed as problem:
                infos[i] = self._reset_again(i, problem.failure)
        return self._observations(), batched(infos, self.num_envs)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment once, or reset it where its episode is over.

        Returns observations [B, *O], rewards [B] float64, terminated and truncated [B] bool, and the infos.
        """
        if not self._episodes:
            raise gymnasium.error.ResetNeeded("the environments are stepped before they are reset")
        self._buffer ^= 1
        self._steps += 1
        for i, action in enumerate(self._private(actions)):
            if self._episodes[i].is_over:
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
                info = self._try_again(i, problem.failure) if episode.actions else self._reset_again(i, problem.failure)
            episode = self._episodes[i]
            episode.is_over = bool(self._board.terminated[i] or self._board.truncated[i])
            if self._supervision.memory_limit is not None:
                info = self._weigh(i, info)
            if info:
                infos[i] = info
        buffers, told = self._board, batched(infos, self.num_envs) if infos else {}
        return self._observations(), buffers.reward.copy(), buffers.terminated.copy(), buffers.truncated.copy(), told

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers; environments have five seconds to close."""
        for worker in self._workers:
            worker.close()
        deadline = time.monotonic() + _FAREWELL
        for worker in self._workers:
            worker.join(deadline)
        self._place.close()

    def __del__(self) -> None:
        if not self.closed and hasattr(self, "_workers"):
            self.close()

    @property
    def seeds_and_steps(self) -> np.ndarray:
        """[2, B] int64: what each environment's episode was reset with, and its steps."""
        return np.array([(episode.seed, len(episode.actions)) for episode in self._episodes]).T

    def _begun(self, i: int, seed: int | None, options: dict[str, Any] | None) -> _Episode:
        if seed is not None:
            episode = _Episode(int(seed))
        elif self._episodes:
            episode = self._episodes[i].next()
        else:
            episode = _Episode(int(np.random.SeedSequence().generate_state(1)[0]) >> 1)
        episode.options = options
        return episode

    def _private(self, actions: Any) -> list[Any]:
        """Each environment's action, in memory that nobody else writes into."""
        if not self._board.shares_action:
            return list(iterate(self.action_space, deepcopy(actions)))
        own = self._board.action
        if np.shape(actions) != own.shape:
            raise ValueError(f"actions have the shape {np.shape(actions)}, not {own.shape}")
        return list(np.asarray(actions).astype(own.dtype, casting="same_kind", copy=True))

    def _observations(self) -> Any:
        seen = self._board.observation[self._buffer]
        if self._board.shares_observation:
            return seen.copy()
        space = self.single_observation_space
        into: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, list(seen), into)

    def _deadline(self) -> float:
        return time.monotonic() + self._supervision.step_timeout

    def _send_reset(self, i: int) -> None:
        self._workers[i].send_reset(self._buffer, self._episodes[i].seed, self._episodes[i].options)

    def _receive(self, i: int, deadline: float | None = None) -> dict[str, Any]:
        deadline = self._deadline() if deadline is None else deadline
        return self._workers[i].receive(self._buffer, deadline, self._supervision.step_timeout)

    # What follows is for failures.

    def _try_again(self, i: int, failure: Failure) -> dict[str, Any]:
        """The info of a step that failed: of its second attempt, in a new worker, or of its truncation."""
        *past, action = self._episodes[i].actions
        self._restart(i, failure)
        try:
            if self._replays(i, past):
                self._workers[i].send_step(self._buffer, action)
                return self._receive(i)
        except Failed as problem:
            self._restart(i, problem.failure)
        buffers = self._board
        buffers.observation[self._buffer, i] = buffers.observation[1 - self._buffer, i]
        buffers.reward[i], buffers.terminated[i], buffers.truncated[i] = 0.0, False, True
        return {"restarted": True}

    def _reset_again(self, i: int, failure: Failure) -> dict[str, Any]:
        """The info of a reset in a new worker: with the same seed and, where that fails too, with others."""
        while True:
            self._restart(i, failure)
            try:
                self._send_reset(i)
                return self._receive(i)
            except Failed as problem:
                failure = problem.failure
                self._episodes[i] = self._episodes[i].next()

    def _weigh(self, i: int, info: dict[str, Any]) -> dict[str, Any]:
        """Replace a worker that is too large. Where its successor cannot go on, the episode is truncated here."""
        episode, buffers = self._episodes[i], self._board
        if not episode.is_over and self._steps % _STEPS_BETWEEN_WEIGHINGS:
            return info
        failure = self._workers[i].too_large(self._supervision.memory_limit)
        if failure is None:
            return info
        self._restart(i, failure)
        if episode.is_over:
            return info
        gave = buffers.reward[i].copy()
        self._buffer ^= 1  # the replay must not touch what this step saw
        try:
            goes_on = self._replays(i, episode.actions)
            still = self._workers[i].too_large(self._supervision.memory_limit)
            if still is not None:
                raise Failed(still)
        except Failed as problem:
            goes_on = False
            self._restart(i, problem.failure)
        self._buffer ^= 1
        buffers.reward[i], buffers.terminated[i], buffers.truncated[i] = gave, False, not goes_on
        episode.is_over = not goes_on
        return info if goes_on else {**info, "restarted": True}

    def _restart(self, i: int, failure: Failure) -> None:
        """Replace a worker by one that has made its environment. Raises EnvironmentFault where it may not."""
        while True:
            self._workers[i].kill()
            note = self._report(i, failure)
            if failure.kind is FailureKind.CONTRACT:
                raise self._fault(i, failure, note)
            if self.restarted >= self._supervision.restarts:
                raise self._fault(i, failure, f"after {self.restarted} restarts", note)
            self.restarted += 1
            self._workers[i] = self._place.start(i)
            try:
                self._workers[i].ready(self._supervision.step_timeout)
                return
            except Failed as problem:
                failure = problem.failure

    def _replays(self, i: int, actions: Sequence[Any]) -> bool:
        """Repeat an episode in a new worker; whether it sees in the end what was seen. Raises Failed."""
        buffers = self._board
        self._send_reset(i)
        self._receive(i)
        for action in actions:
            self._workers[i].send_step(self._buffer, action)
            self._receive(i)
            if buffers.terminated[i] or buffers.truncated[i]:
                return False
        return _same(buffers.observation[self._buffer, i], buffers.observation[1 - self._buffer, i])

    def _report(self, i: int, failure: Failure) -> str:
        """Write the crash capsule; says where it is."""
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
            return f"no crash capsule: {problem}"  # a full disk or an impossible action must not hide what went wrong
        self.capsules.append(path)
        return f"asyncrl repro {path}"

    def _fault(self, i: int, failure: Failure, *notes: str) -> EnvironmentFault:
        episode = self._episodes[i]
        place = f"in step {len(episode.actions)} of the episode with seed {episode.seed}"
        return EnvironmentFault(f"{failure.what} ({'; '.join(filter(None, [place, *notes]))})", failure.traceback)


def _same(one: Any, other: Any) -> bool:
    """Exactly, in observations of any space."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other))
