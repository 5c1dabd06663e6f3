"""Stored experience: every frame once; stacks and n-step windows are put together when they are sampled."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.os_errors import attach_path
from asyncrl.envs.rewards import Rewards
from asyncrl.experience.options import ReplayPlan, Storage
from asyncrl.experience.priorities import SumTree
from asyncrl.experience.rollout import Rollout

__all__ = ["PreparedSample", "ReplayBuffer", "Sample"]


_TOGETHER, _CACHE = 16, 4 * 2**20
"""Batches, and bytes of observations, that are put together at once: many small batches cost more than a large one,
but what was put together should still be in the processor's cache when it is learned from."""


@dataclass(frozen=True)
class Sample:
    """N stored transitions of n steps each, or fewer where the episode ends earlier."""

    observation: Tensor
    """[N, *O]: the observation before the first step."""
    action: Tensor
    """[N, …], shape and dtype as `Actions` describes: the action of the first step."""
    reward: Tensor
    """[n, N] float32, transformed as the environment's contract says; 0 after the episode's end."""
    next_observation: Tensor
    """[N, *O]: the observation n steps later, or the episode's last one if it ends earlier."""
    steps: Tensor
    """[N] int64: steps from `observation` to `next_observation`, at most n."""
    terminated: Tensor
    """[N] bool: whether the episode terminated at `next_observation`."""
    weight: Tensor
    """[N] float32: importance weights; 1 where sampling is uniform."""
    index: Tensor
    """[N] int64: positions in the replay buffer, for `ReplayBuffer.prioritize`."""

    def to(self, device: torch.device) -> Self:
        """Return a copy on `device`."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def split(self, size: int) -> list[Self]:
        """Divide into samples of `size` transitions; the last one may be smaller."""
        names = [field.name for field in fields(self)]
        parts = [getattr(self, name).split(size, 1 if name == "reward" else 0) for name in names]
        return [type(self)(**dict(zip(names, part, strict=True))) for part in zip(*parts, strict=True)]

    def with_targets(self, target_q: Tensor, target_outputs: Tensor) -> PreparedSample:
        """Add the target network's outputs for `next_observation`: `target_q` [N, A], `target_outputs` [N, A, K]."""
        own = {field.name: getattr(self, field.name) for field in fields(Sample)}
        return PreparedSample(**own, target_q=target_q, target_outputs=target_outputs)

    def returns(self, discount: float) -> Tensor:
        """Return the discounted sum of rewards Σ_k γ^k·r_k [N] up to `next_observation`."""
        powers = discount ** torch.arange(len(self.reward), dtype=torch.float32, device=self.reward.device)
        return (powers[:, None] * self.reward).sum(0)

    def bootstrap(self, discount: float) -> Tensor:
        """Return the discount [N] of the value of `next_observation`: γ^steps, or 0 if the episode terminated."""
        return torch.where(self.terminated, 0.0, discount ** self.steps.float())


@dataclass(frozen=True)
class PreparedSample(Sample):
    """A sample with the target network's outputs for `next_observation`."""

    target_q: Tensor
    """[N, A] float32: action values of the target network."""
    target_outputs: Tensor
    """[N, A, K] float32: the outputs that `target_q` is computed from."""


class ReplayBuffer:
    """The newest steps of every environment: a ring of rows for each, row t what was seen, done and got at step t.

    Rows are those of rollouts, an episode's true last observation among them (in its reset step), so next
    observations need no memory of their own. A row is addressed by its number since the run began; the newest row
    is only seen so far: its frame is known, nothing is done in it yet.
    """

    def __init__(self, plan: ReplayPlan) -> None:
        self._options, self._window, self._stack = plan.options, plan.window, plan.layout.stack
        self._shape = plan.actors, plan.rows, plan.layout.envs
        memory, offset = _allocate(plan.nbytes, plan.options.storage), 0
        self._views: dict[str, Tensor] = {}
        for name, field in plan.fields().items():
            self._views[name] = field.view(memory, offset)
            offset += field.nbytes
        self.newest = np.zeros(plan.actors, dtype=np.int64)
        """[A] number of each actor's newest row"""
        self._observation_nbytes = self._stack * plan.layout.frame.nbytes
        self._tree = SumTree(math.prod(self._shape)) if self._options.prioritized else None
        self._highest = 1.0  # priority of a step that was never learned from

    def extend(self, rollout: Rollout) -> None:
        """Store a rollout's steps; the oldest ones make room."""
        actor, steps = int(rollout.stamp[1]), len(rollout.reward)
        if rollout.starts_reset:
            self._interrupt(actor)
        first = int(self.newest[actor])
        rows = torch.arange(first, first + steps + 1) % self._shape[1]
        if self._tree is not None:
            self._forget(actor, first, first + steps)
        self._views["frames"][actor].index_copy_(0, rows, rollout.frames[self._stack - 1 :])
        self._views["reset"][actor].index_copy_(0, rows, rollout.reset)
        for name in ("action", "reward", "terminated"):
            view = self._views[name]
            view[actor].index_copy_(0, rows[:-1], getattr(rollout, name).to(view.dtype))
        self.newest[actor] = first + steps
        if self._tree is not None:
            self._expect(actor, first, first + steps)

    def samples(
        self, count: int, random: torch.Generator, progress: float = 0.0, rewards: Rewards | None = None
    ) -> Iterator[Sample]:
        """`count` batches of stored steps, many together; `progress` is the share of the run that is over.

        By priority it is one at a time: priorities that change between two batches count.
        """
        size, rewards = self._options.batch_size, rewards or Rewards()
        if self._tree is not None:
            for _ in range(count):
                yield self._sample(*self._by_priority(random, size, progress), rewards)
            return
        together = min(_TOGETHER, max(1, _CACHE // (2 * size * self._observation_nbytes)))
        for done in range(0, count, together):
            steps = size * min(together, count - done)
            yield self._sample(*self._uniform(random, steps), torch.ones(steps, dtype=torch.float32), rewards)

    def _sample(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray, weight: Tensor, rewards: Rewards) -> Sample:
        """What is stored in these rows of these environments of these actors, [N] each."""
        n = self._window
        ahead = row + np.arange(n + 1)[:, None]  # [n+1, N]
        at = self._at(actor, ahead, env)
        reset, terminated = self._flat("reset")[at], self._flat("terminated")[at[:-1]]
        alive = torch.ones(n + 1, len(row), dtype=torch.bool)  # is step k part of the return?
        for k in range(n):
            alive[k + 1] = alive[k] & ~terminated[k] & ~reset[k + 1]
        alive = alive[:-1]
        steps = alive.sum(0)
        reward = torch.where(alive, rewards.learned(self._flat("reward")[at[:-1]], terminated), 0.0)
        here, there = self._observe(np.tile(actor, 2), np.concatenate([row, row + steps.numpy()]), np.tile(env, 2)).chunk(2)
        action = self._flat("action")[at[0]]
        return Sample(
            observation=here,
            action=action.long() if not action.is_floating_point() else action,
            reward=reward,
            next_observation=there,
            steps=steps,
            terminated=(alive & terminated).any(0),
            weight=weight,
            index=at[0],
        )

    def rows(self, since: np.ndarray) -> dict[str, Tensor]:
        """What is stored from rows `since` [A] on, as far as it is still there; `put` takes it."""
        found = {}
        for actor, (wanted, newest) in enumerate(zip(since.tolist(), self.newest.tolist(), strict=True)):
            first = max(wanted, newest - self._shape[1] + 1)
            places = torch.arange(first, newest + 1) % self._shape[1]
            found[f"{actor}.first"] = torch.tensor(first)
            found |= {f"{actor}.{name}": view[actor].index_select(0, places) for name, view in self._views.items()}
        return found

    def like(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors on the device "meta" as `rows` gives them, as many rows of each actor as there are in `found`."""
        expected = {}
        for actor in range(len(self.newest)):
            seen = found.get(f"{actor}.reset")
            count = min(max(1, len(seen)) if seen is not None and seen.dim() else 1, self._shape[1])
            expected[f"{actor}.first"] = torch.empty((), dtype=torch.int64, device="meta")
            for name, view in self._views.items():
                shape = (count, *view.shape[2:])
                expected[f"{actor}.{name}"] = torch.empty(shape, dtype=view.dtype, device="meta")
        return expected

    def load_rows(self, rows: dict[str, Tensor]) -> None:
        """Store what `rows` gave. Priorities are not touched. Raises ValueError for rows that cannot follow."""
        for actor in range(len(self.newest)):
            first, count = int(rows[f"{actor}.first"]), len(rows[f"{actor}.reset"])
            stored = int(self.newest[actor])
            if not 0 <= first < 2**53 or first + count - 1 < stored:
                raise ValueError(f"it begins with row {first} of actor {actor}, and row {stored} is known already")
            places = torch.arange(first, first + count) % self._shape[1]
            for name, view in self._views.items():
                view[actor].index_copy_(0, places, rows[f"{actor}.{name}"])
            self.newest[actor] = first + count - 1

    def state(self) -> dict[str, Tensor]:
        """Priorities, where there are any."""
        if self._tree is None:
            return {}
        highest = torch.tensor(self._highest, dtype=torch.float64)
        return {"priorities": torch.from_numpy(self._tree.priorities.copy()), "highest": highest}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        if self._tree is not None:
            self._tree.update(np.arange(math.prod(self._shape)), state["priorities"].numpy())
            self._highest = float(state["highest"])

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        """Give the steps at `index` [N] priorities by what was learned of them: `errors` [N] ≥ 0."""
        if self._tree is not None:
            priority = (errors.double().numpy() + 1e-6) ** self._options.priority_exponent
            stored = self._tree.priorities[index.numpy()] > 0
            self._tree.update(index.numpy()[stored], priority[stored])
            self._highest = max(self._highest, float(priority.max()))

    def _by_priority(
        self, random: torch.Generator, size: int, progress: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
        """Actor, row number and environment of each step of a batch, and what it counts for."""
        assert self._tree is not None
        part = torch.rand(size, generator=random, dtype=torch.float64).numpy()
        index = self._tree.find((np.arange(size) + part) / size * self._tree.total)
        actor, slot, env = np.unravel_index(index, self._shape)
        newest, rows = self.newest[actor], self._shape[1]
        row = newest - (newest - slot) % rows
        beta = self._options.importance_exponent + (1 - self._options.importance_exponent) * progress
        weight = self._tree.priorities[index] ** -beta
        return actor, row, env, torch.from_numpy(weight / weight.max()).float()

    def _uniform(self, random: torch.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        oldest = self.oldest
        counts = np.maximum(0, self.newest - self._window + 1 - oldest) * self._shape[2]
        borders = np.cumsum(counts)
        actor, row, env = (np.zeros(size, dtype=np.int64) for _ in range(3))
        wanted = np.arange(size)
        while len(wanted):  # again where a step only reset its environment: one in an episode
            drawn = torch.randint(int(borders[-1]), wanted.shape, generator=random).numpy()
            a = np.searchsorted(borders, drawn, side="right")
            actor[wanted] = a
            row[wanted], env[wanted] = divmod(drawn - (borders - counts)[a], self._shape[2])
            row[wanted] += oldest[a]
            wanted = np.flatnonzero(self._flat("reset")[self._at(actor, row, env)].numpy())
        return actor, row, env

    @property
    def oldest(self) -> np.ndarray:
        """[A] the oldest row of each actor whose stack of frames is whole."""
        return self._oldest_at(self.newest)

    def _oldest_at(self, newest: np.ndarray) -> np.ndarray:
        first: np.ndarray = newest - self._shape[1] + 1
        return np.where(first > 0, first + self._stack - 1, 0)

    def _interrupt(self, actor: int) -> None:
        """The actor's environments begin new episodes: what was seen last is the end of the old ones."""
        newest = int(self.newest[actor])
        if newest == 0:
            return
        if self._tree is not None:
            self._forget(actor, newest, newest + 1)
        self._views["reset"][actor, newest % self._shape[1]] = True
        self.newest[actor] = newest + 1
        if self._tree is not None:
            self._expect(actor, newest, newest + 1)

    def _forget(self, actor: int, first: int, last: int) -> None:
        """Take the priorities of rows that are too old when the newest row is not `first` any more but `last`."""
        assert self._tree is not None
        before, after = self._oldest_at(np.array([first, last]))
        self._tree.update(self._indices(actor, np.arange(before, after)), 0.0)

    def _expect(self, actor: int, first: int, last: int) -> None:
        """Give steps that have become complete, rows `first` - n + 1 … `last` - n, the highest priority."""
        assert self._tree is not None
        rows = np.arange(max(0, first - self._window + 1), last - self._window + 1)
        index = self._indices(actor, rows)
        self._tree.update(index[~self._flat("reset")[index].numpy()], self._highest)

    def _indices(self, actor: int, rows: np.ndarray) -> np.ndarray:
        """Where these rows of all environments of an actor are stored."""
        envs = np.arange(self._shape[2])
        return self._at(np.int64(actor), rows[:, None], envs).numpy().ravel()

    def _at(self, actor: np.ndarray | np.int64, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Where rows are stored, counted through all actors and environments."""
        rows, envs = self._shape[1:]
        return torch.from_numpy((actor * rows + row % rows) * envs + env)

    def _flat(self, name: str) -> Tensor:
        return self._views[name].flatten(0, 2)

    def _observe(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Observations [M, *O] at these rows [M]; frames of earlier episodes in a stack are zero."""
        back = np.arange(self._stack)[::-1]
        rows = row[:, None] - back  # [M, S], oldest first
        at = self._at(actor[:, None], rows, env[:, None])
        frames = self._flat("frames")
        frames = frames.index_select(0, at.flatten()).view(*at.shape, *frames.shape[1:])  # faster than [at]
        if self._stack == 1:
            return frames[:, 0]
        border = self._flat("reset")[at] | torch.from_numpy(rows < 0)
        border[:, -1] = False  # what the newest frame's own step does comes after it
        foreign = border.flip(1).cumsum(1).flip(1) > 0
        frames[foreign.nonzero(as_tuple=True)] = 0  # only these: a mask would go over all of them
        return frames


def _allocate(nbytes: int, storage: Storage) -> Tensor:
    """[nbytes] uint8. Pages of memory are taken when they are first written to, those of a disk at once."""
    if storage is Storage.RAM:
        return torch.empty(nbytes, dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(prefix="asyncrl-replay-", dir=".") as file:
        if hasattr(os, "posix_fallocate"):  # else a disk that becomes full ends the process at some write, with SIGBUS
            with attach_path(Path(file.name).parent):
                os.posix_fallocate(file.fileno(), 0, nbytes)
        return torch.from_file(file.name, shared=True, size=nbytes, dtype=torch.uint8)
