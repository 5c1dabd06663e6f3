"""Rollouts joined into the batches that losses are computed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from asyncrl.common.sharding import current_shard
from asyncrl.envs.rewards import Rewards
from asyncrl.experience.rollout import Rollout

__all__ = ["Batch", "PreparedBatch", "stack_frames"]


@dataclass(frozen=True)
class _Sequences:
    """The fields of both batches: N sequences of T steps. Row t holds step t."""

    observation: Tensor
    action: Tensor
    """[T, N, …], shape and dtype as `Actions` describes."""
    reward: Tensor
    """[T, N] float32, transformed as the environment's contract says."""
    terminated: Tensor
    """[T, N] bool"""
    valid: Tensor
    """[T, N] bool: False on reset steps and padding."""
    state: Tensor
    """[N, S] float32: the acting network's recurrent state before step 0."""
    extras: Mapping[str, Tensor]
    """[T, N, …]: the extras of `ActionOutput`, and the targets that `Algorithm.prepare` adds."""


@dataclass(frozen=True)
class Batch(_Sequences):
    """M rollouts of B environments side by side: N = M·B sequences."""

    observation: Tensor
    """[T+1, N, *O]: row T is the observation after the last step."""

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], rewards: Rewards | None = None, device: torch.device | str = "cpu") -> Batch:
        """Copy `rollouts` out of their slots to `device`; `rewards` transforms the rewards."""
        rollouts = [rollout.to(device) for rollout in rollouts]
        reward = torch.cat([r.reward for r in rollouts], 1)
        terminated = torch.cat([r.terminated for r in rollouts], 1)
        return cls(
            observation=stack_frames(rollouts),
            action=torch.cat([r.action for r in rollouts], 1),
            reward=(rewards or Rewards()).learned(reward, terminated),
            terminated=terminated,
            valid=torch.cat([r.valid for r in rollouts], 1),
            state=torch.cat([r.state for r in rollouts]),
            extras={name: torch.cat([r.extras[name] for r in rollouts], 1) for name in rollouts[0].extras},
        )

    def with_targets(self, **targets: Tensor) -> PreparedBatch:
        """Add `targets` [T, N, …] to the extras, and drop row T of the observation, which only targets need."""
        return PreparedBatch(
            observation=self.observation[: len(self.reward)],
            action=self.action,
            reward=self.reward,
            terminated=self.terminated,
            valid=self.valid,
            state=self.state,
            extras={**self.extras, **targets},
        )


@dataclass(frozen=True)
class PreparedBatch(_Sequences):
    """A batch with its targets in `extras`, which can be divided into minibatches."""

    observation: Tensor
    """[T, N, *O]"""

    def minibatches(self, count: int, random: torch.Generator) -> list[PreparedBatch]:
        """Shuffle and divide into `count` minibatches.

        Each holds single steps [1, n], or whole sequences [T, n] if there is a recurrent state. Steps that do not
        divide evenly are dropped, different ones each time.
        """
        sequences = self.reward.shape[1]
        if self.state.shape[1]:
            columns = torch.randperm(_whole(sequences), generator=random).tensor_split(count)
            return [self._select(c, lambda own: itemgetter((slice(None), own)), itemgetter) for c in columns]
        steps = len(self.reward) * _whole(sequences)
        size = steps // count
        order = torch.randperm(steps, generator=random)[: size * count].view(count, size)
        return [
            self._select(index, lambda own: partial(_steps_at, index=own), lambda own: itemgetter(own % sequences))
            for index in order
        ]

    def _select(self, index: Tensor, of_steps: _Selection, of_states: _Selection) -> PreparedBatch:
        """Return this learner's part of `index` into the whole batch; a single masked step if it has none of it."""
        own = _own(index)
        shown = (own if len(own) else torch.zeros(1, dtype=torch.int64)).to(self.reward.device)
        part = PreparedBatch(**self._map(of_steps(shown), of_states(shown)))
        return part if len(own) else replace(part, valid=torch.zeros_like(part.valid))

    def _map(self, change: Callable[[Tensor], Tensor], change_state: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Apply `change` to every field with a time axis and `change_state` to the state."""
        names = [field.name for field in fields(self) if field.name not in ("extras", "state")]
        return {
            **{name: change(getattr(self, name)) for name in names},
            "state": change_state(self.state),
            "extras": {name: change(x) for name, x in self.extras.items()},
        }


_Selection = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""Maps an index to a function that selects its entries of a tensor."""


def _whole(sequences: int) -> int:
    """The number of sequences in the whole batch, of which this learner has `sequences`."""
    shard = current_shard()
    return sequences if shard is None else shard.size


def _own(index: Tensor) -> Tensor:
    """From an `index` into the whole batch's T·N steps or N sequences, return this learner's, as an index into its own."""
    shard = current_shard()
    if shard is None:
        return index
    step, column = index // shard.size, index % shard.size - shard.start
    return (step * shard.rows + column)[(column >= 0) & (column < shard.rows)]


def _steps_at(x: Tensor, index: Tensor) -> Tensor:
    """Return the steps [1, n, …] of `x` [T, N, …] at `index` [n] into its T·N steps."""
    return x.flatten(0, 1).index_select(0, index)[None]


def stack_frames(rollouts: Sequence[Rollout]) -> Tensor:
    """Return the observations [T+1, N, *O] of rollouts, which store every frame once.

    With a stack of S frames, O is (S, *frame), oldest frame first. Frames from before the episode's first one are
    zero, as in the environment's own observations.
    """
    first = rollouts[0]
    steps = len(first.reward)
    stack = len(first.frames) - steps
    if stack == 1:
        return torch.cat([r.frames for r in rollouts], 1)
    frame = first.frames.shape[2:]
    counts = [r.reward.shape[1] for r in rollouts]
    device = first.frames.device
    out = torch.empty(steps + 1, sum(counts), stack, *frame, dtype=first.frames.dtype, device=device)
    age = torch.arange(stack - 1, -1, -1, device=device)  # of each stacked frame: steps before the newest
    for rollout, columns in zip(rollouts, torch.split(out, counts, 1), strict=True):
        for i in range(stack):
            columns[:, :, i] = rollout.frames[i : i + steps + 1]
        other_episode = age > _frames_since_reset(rollout)[..., None]
        if other_episode.any():
            columns[other_episode] = 0
    return out


def _frames_since_reset(rollout: Rollout) -> Tensor:
    """Return the number of earlier frames of the same episode at every step, [T+1, B] int64."""
    step = torch.arange(len(rollout.reset), device=rollout.reset.device)[:, None]
    starts = torch.where(rollout.valid, torch.iinfo(torch.int64).min, step[1:])  # steps that begin an episode
    return step - torch.cat([-rollout.frames_since_reset[None].long(), starts]).cummax(0).values
