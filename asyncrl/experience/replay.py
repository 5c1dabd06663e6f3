"""The replay buffer. It stores every frame once, and assembles frame stacks and n-step transitions when sampling."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
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

_MAX_BATCHES = 16
"""Batches sampled at once: one large sample costs less than many small ones."""

_MAX_BYTES = 4 * 2**20
"""Bytes of observations sampled at once, so that they are still in the processor's cache when they are learned from."""


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
    number: int = field(default=0, kw_only=True)
    """Gradient steps that the run took before the one that learns from this sample."""
    random: torch.Generator = field(default_factory=torch.Generator, kw_only=True)
    """Source of the loss's random numbers, on the CPU."""

    def to(self, device: torch.device) -> Self:
        """Return a copy on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self._tensors()})

    def split(self, size: int) -> list[Self]:
        """Divide into samples of `size` transitions, for one gradient step each; the last one may be smaller."""
        names = self._tensors()
        parts = zip(*(getattr(self, name).split(size, 1 if name == "reward" else 0) for name in names), strict=True)
        return [
            replace(self, **dict(zip(names, part, strict=True)), number=self.number + i) for i, part in enumerate(parts)
        ]

    def _tensors(self) -> list[str]:
        return [own.name for own in fields(self) if isinstance(getattr(self, own.name), Tensor)]

    def with_targets(self, target_q: Tensor, target_outputs: Tensor) -> PreparedSample:
        """Add the target network's outputs for `next_observation`: `target_q` [N, A], `target_outputs` [N, A, K]."""
        own = {one.name: getattr(self, one.name) for one in fields(Sample)}
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
    """A ring buffer of rows for each environment; row t holds the frame, action, reward and flags of step t.

    Rows are copied from rollouts, including reset steps, which hold an episode's last observation. So next
    observations need no extra storage. Rows are numbered from the beginning of the run. The newest row holds a frame
    only: its action is not taken yet.
    """

    def __init__(self, plan: ReplayPlan) -> None:
        self._options, self._n_step, self._stack = plan.options, plan.n_step, plan.layout.stack
        self._shape = plan.actors, plan.rows, plan.layout.envs
        memory = _allocate(plan.nbytes, plan.options.storage)
        offset = 0
        self._views: dict[str, Tensor] = {}
        for name, array in plan.fields().items():
            self._views[name] = array.view(memory, offset)
            offset += array.nbytes
        self.newest = np.zeros(plan.actors, dtype=np.int64)
        """[A] int64: number of each actor's newest row."""
        self._observation_nbytes = self._stack * plan.layout.frame.nbytes
        self._tree = SumTree(math.prod(self._shape)) if self._options.prioritized else None
        self._max_priority = 1.0  # largest priority so far, given to new steps

    def extend(self, rollout: Rollout) -> None:
        """Store the steps of `rollout`, overwriting the oldest ones."""
        actor, steps = int(rollout.stamp[1]), len(rollout.reward)
        if rollout.starts_reset:
            self._end_episodes(actor)
        first = int(self.newest[actor])
        rows = torch.arange(first, first + steps + 1) % self._shape[1]
        if self._tree is not None:
            self._drop_priorities(actor, first, first + steps)
        self._views["frames"][actor].index_copy_(0, rows, rollout.frames[self._stack - 1 :])
        self._views["reset"][actor].index_copy_(0, rows, rollout.reset)
        for name in ("action", "reward", "terminated"):
            view = self._views[name]
            view[actor].index_copy_(0, rows[:-1], getattr(rollout, name).to(view.dtype))
        self.newest[actor] = first + steps
        if self._tree is not None:
            self._add_priorities(actor, first, first + steps)

    def samples(
        self, count: int, random: torch.Generator, progress: float = 0.0, rewards: Rewards | None = None
    ) -> Iterator[Sample]:
        """Yield samples that add up to `count` batches; `progress` in [0, 1] is the fraction of the run completed.

        Uniform sampling yields several batches per sample, to be split. Prioritized sampling yields one batch at a
        time, because `prioritize` changes the priorities in between.
        """
        size, rewards = self._options.batch_size, rewards or Rewards()
        if self._tree is not None:
            for _ in range(count):
                yield self._sample(*self._draw_by_priority(random, size, progress), rewards)
            return
        batches = min(_MAX_BATCHES, max(1, _MAX_BYTES // (2 * size * self._observation_nbytes)))
        for done in range(0, count, batches):
            steps = size * min(batches, count - done)
            yield self._sample(*self._draw_uniformly(random, steps), torch.ones(steps, dtype=torch.float32), rewards)

    def _sample(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray, weight: Tensor, rewards: Rewards) -> Sample:
        """Return the transitions that begin at `row` of environment `env` of `actor`, [N] int64 each."""
        n = self._n_step
        rows = row + np.arange(n + 1)[:, None]  # [n+1, N]
        index = self._index(actor, rows, env)
        reset, terminated = self._flat("reset")[index], self._flat("terminated")[index[:-1]]
        alive = torch.ones(n + 1, len(row), dtype=torch.bool)  # step k belongs to the transition
        for k in range(n):
            alive[k + 1] = alive[k] & ~terminated[k] & ~reset[k + 1]
        alive = alive[:-1]
        steps = alive.sum(0)
        reward = torch.where(alive, rewards.learned(self._flat("reward")[index[:-1]], terminated), 0.0)
        both_rows = np.concatenate([row, row + steps.numpy()])
        observation, next_observation = self._observations(np.tile(actor, 2), both_rows, np.tile(env, 2)).chunk(2)
        action = self._flat("action")[index[0]]
        return Sample(
            observation=observation,
            action=action.long() if not action.is_floating_point() else action,
            reward=reward,
            next_observation=next_observation,
            steps=steps,
            terminated=(alive & terminated).any(0),
            weight=weight,
            index=index[0],
        )

    def rows(self, since: np.ndarray) -> dict[str, Tensor]:
        """Return the rows from number `since` [A] on that are still stored, by name; `load_rows` takes them."""
        tensors = {}
        for actor, (start, newest) in enumerate(zip(since.tolist(), self.newest.tolist(), strict=True)):
            first = max(start, newest - self._shape[1] + 1)
            slots = torch.arange(first, newest + 1) % self._shape[1]
            tensors[f"{actor}.first"] = torch.tensor(first)
            tensors |= {f"{actor}.{name}": view[actor].index_select(0, slots) for name, view in self._views.items()}
        return tensors

    def like(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `rows` would return with as many rows per actor as `found` has, as tensors on device "meta".

        The result says whether `found` has the names, shapes and dtypes of this buffer.
        """
        expected = {}
        for actor in range(len(self.newest)):
            reset = found.get(f"{actor}.reset")
            count = min(max(1, len(reset)) if reset is not None and reset.dim() else 1, self._shape[1])
            expected[f"{actor}.first"] = torch.empty((), dtype=torch.int64, device="meta")
            for name, view in self._views.items():
                shape = (count, *view.shape[2:])
                expected[f"{actor}.{name}"] = torch.empty(shape, dtype=view.dtype, device="meta")
        return expected

    def load_rows(self, rows: dict[str, Tensor]) -> None:
        """Store the result of `rows`, leaving priorities as they are.

        Raises ValueError if the rows do not continue the stored ones.
        """
        for actor in range(len(self.newest)):
            first, count = int(rows[f"{actor}.first"]), len(rows[f"{actor}.reset"])
            stored = int(self.newest[actor])
            if not 0 <= first < 2**53 or first + count - 1 < stored:
                raise ValueError(f"rows {first} to {first + count - 1} of actor {actor} do not continue row {stored}")
            slots = torch.arange(first, first + count) % self._shape[1]
            for name, view in self._views.items():
                view[actor].index_copy_(0, slots, rows[f"{actor}.{name}"])
            self.newest[actor] = first + count - 1

    def state(self) -> dict[str, Tensor]:
        """Return the priorities for `restore`; {} without prioritized replay."""
        if self._tree is None:
            return {}
        highest = torch.tensor(self._max_priority, dtype=torch.float64)
        return {"priorities": torch.from_numpy(self._tree.priorities.copy()), "highest": highest}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state`."""
        if self._tree is not None:
            self._tree.update(np.arange(math.prod(self._shape)), state["priorities"].numpy())
            self._max_priority = float(state["highest"])

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        """Set the priorities of the steps at `index` [N] to (errors + 10⁻⁶)^α (Schaul et al. 2016, section 3.3).

        `errors` is [N] ≥ 0. Steps that have been overwritten since they were sampled are skipped.
        """
        if self._tree is not None:
            priority = (errors.double().numpy() + 1e-6) ** self._options.priority_exponent
            stored = self._tree.priorities[index.numpy()] > 0
            self._tree.update(index.numpy()[stored], priority[stored])
            self._max_priority = max(self._max_priority, float(priority.max()))

    def _draw_by_priority(
        self, random: torch.Generator, size: int, progress: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Tensor]:
        """Draw steps with probability P_i = p_i / Σ p, one from each of `size` equal ranges of the total priority.

        Returns actors, row numbers, environments [N] int64, and importance weights [N] float32, which are
        (N·P_i)^−β divided by their maximum (Schaul et al. 2016, section 3.4). β rises linearly to 1.
        """
        assert self._tree is not None
        offset = torch.rand(size, generator=random, dtype=torch.float64).numpy()
        index = self._tree.find((np.arange(size) + offset) / size * self._tree.total)
        actor, slot, env = np.unravel_index(index, self._shape)
        newest, rows = self.newest[actor], self._shape[1]
        row = newest - (newest - slot) % rows
        beta = self._options.importance_exponent + (1 - self._options.importance_exponent) * progress
        weight = self._tree.priorities[index] ** -beta
        return actor, row, env, torch.from_numpy(weight / weight.max()).float()

    def _draw_uniformly(self, random: torch.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw steps uniformly. Returns actors, row numbers and environments, [N] int64."""
        oldest = self.oldest
        counts = np.maximum(0, self.newest - self._n_step + 1 - oldest) * self._shape[2]
        ends = np.cumsum(counts)
        actor, row, env = (np.zeros(size, dtype=np.int64) for _ in range(3))
        pending = np.arange(size)
        while len(pending):  # reset steps, one per episode, are drawn again
            number = torch.randint(int(ends[-1]), pending.shape, generator=random).numpy()
            a = np.searchsorted(ends, number, side="right")
            actor[pending] = a
            row[pending], env[pending] = divmod(number - (ends - counts)[a], self._shape[2])
            row[pending] += oldest[a]
            pending = np.flatnonzero(self._flat("reset")[self._index(actor, row, env)].numpy())
        return actor, row, env

    @property
    def oldest(self) -> np.ndarray:
        """[A] int64: the oldest row of each actor whose frame stack is complete."""
        return self._oldest_at(self.newest)

    def _oldest_at(self, newest: np.ndarray) -> np.ndarray:
        """Return `oldest` for the newest rows `newest` [A]."""
        first: np.ndarray = newest - self._shape[1] + 1
        return np.where(first > 0, first + self._stack - 1, 0)

    def _end_episodes(self, actor: int) -> None:
        """Mark the actor's newest frames as the ends of their episodes: its environments have started new ones."""
        newest = int(self.newest[actor])
        if newest == 0:
            return
        if self._tree is not None:
            self._drop_priorities(actor, newest, newest + 1)
        self._views["reset"][actor, newest % self._shape[1]] = True
        self.newest[actor] = newest + 1
        if self._tree is not None:
            self._add_priorities(actor, newest, newest + 1)

    def _drop_priorities(self, actor: int, first: int, last: int) -> None:
        """Zero the priorities of rows that become too old as the newest row moves from `first` to `last`."""
        assert self._tree is not None
        before, after = self._oldest_at(np.array([first, last]))
        self._tree.update(self._indices(actor, np.arange(before, after)), 0.0)

    def _add_priorities(self, actor: int, first: int, last: int) -> None:
        """Give rows `first` − n + 1 to `last` − n, whose n steps are now complete, the largest priority so far."""
        assert self._tree is not None
        rows = np.arange(max(0, first - self._n_step + 1), last - self._n_step + 1)
        index = self._indices(actor, rows)
        self._tree.update(index[~self._flat("reset")[index].numpy()], self._max_priority)

    def _indices(self, actor: int, rows: np.ndarray) -> np.ndarray:
        """Return the flat indices [R·B] of `rows` [R] of all environments of `actor`."""
        envs = np.arange(self._shape[2])
        return self._index(np.int64(actor), rows[:, None], envs).numpy().ravel()

    def _index(self, actor: np.ndarray | np.int64, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Return the flat indices, int64, of rows in the buffer of all actors and environments."""
        rows, envs = self._shape[1:]
        return torch.from_numpy((actor * rows + row % rows) * envs + env)

    def _flat(self, name: str) -> Tensor:
        """Return a view of the field `name` for `_index`: [A·R·B, …]."""
        return self._views[name].flatten(0, 2)

    def _observations(self, actor: np.ndarray, row: np.ndarray, env: np.ndarray) -> Tensor:
        """Return the observations [M, *O] at `row` [M]; stacked frames of earlier episodes are zero."""
        age = np.arange(self._stack)[::-1]
        rows = row[:, None] - age  # [M, S], oldest first
        index = self._index(actor[:, None], rows, env[:, None])
        frames = self._flat("frames")
        frames = frames.index_select(0, index.flatten()).view(*index.shape, *frames.shape[1:])  # faster than [index]
        if self._stack == 1:
            return frames[:, 0]
        boundary = self._flat("reset")[index] | torch.from_numpy(rows < 0)
        boundary[:, -1] = False  # a reset step's own frame still belongs to the episode that ended
        other_episode = boundary.flip(1).cumsum(1).flip(1) > 0
        frames[other_episode.nonzero(as_tuple=True)] = 0  # faster than a mask over all frames
        return frames


def _allocate(nbytes: int, storage: Storage) -> Tensor:
    """Return [nbytes] uint8. RAM is committed when pages are first written, disk space at once."""
    if storage is Storage.RAM:
        return torch.empty(nbytes, dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(prefix="asyncrl-replay-", dir=".") as file:
        if hasattr(os, "posix_fallocate"):  # without it, a write to a full disk would end the process with SIGBUS
            with attach_path(Path(file.name).parent):
                os.posix_fallocate(file.fileno(), 0, nbytes)
        return torch.from_file(file.name, shared=True, size=nbytes, dtype=torch.uint8)
