"""Rollouts side by side: what a loss is computed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter, methodcaller

import torch
from torch import Tensor

from asyncrl.envs.rewards import Rewards
from asyncrl.experience.rollout import Rollout

__all__ = ["Batch", "stack_frames"]


@dataclass(frozen=True)
class Batch:
    """M rollouts along the environments: N = M·B columns. Row t: seen, done and got at step t."""

    observation: Tensor
    """[T+1, N, *O]; row T is where the next rollout begins"""
    action: Tensor
    """[T, N, …] as `Actions` says"""
    reward: Tensor
    """[T, N] float32, as the contract says"""
    terminated: Tensor
    """[T, N] bool"""
    valid: Tensor
    """[T, N] bool: False on a reset step"""
    state: Tensor
    """[N, S] what the network that acted remembered before step 0"""
    extras: dict[str, Tensor]
    """[T, N, …] what the policy said when it extras, and what `Algorithm.prepare` adds"""

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], rewards: Rewards | None = None) -> Batch:
        """Copy rollouts out of their slots."""
        reward, terminated = (torch.cat([getattr(r, name) for r in rollouts], 1) for name in ("reward", "terminated"))
        return cls(
            observation=stack_frames(rollouts),
            action=torch.cat([r.action for r in rollouts], 1),
            reward=(rewards or Rewards()).learned(reward, terminated),
            terminated=terminated,
            valid=torch.cat([r.valid for r in rollouts], 1),
            state=torch.cat([r.state for r in rollouts]),
            extras={name: torch.cat([r.extras[name] for r in rollouts], 1) for name in rollouts[0].extras},
        )

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        move = methodcaller("to", device)
        return self._map(move, move)

    def with_targets(self, **targets: Tensor) -> Batch:
        """The same with more in `extras`, and without the observation of row T, which only targets need."""
        return replace(self, observation=self.observation[: len(self.reward)], extras={**self.extras, **targets})

    def minibatches(self, count: int, random: torch.Generator) -> list[Batch]:
        """`count` parts of equal size: whole columns where a network remembers, single steps where none does.

        What does not divide evenly is left out, other steps every time. Call it on a batch `with_targets`.
        """
        envs = self.reward.shape[1]
        if self.state.shape[1]:
            columns = torch.randperm(envs, generator=random).tensor_split(count)
            return [self._map(itemgetter((slice(None), c)), itemgetter(c)) for c in columns]
        size = self.reward.numel() // count
        order = torch.randperm(self.reward.numel(), generator=random)[: size * count].view(count, size)
        return [self._map(partial(_at, places=places), itemgetter(places % envs)) for places in order]

    def _map(self, change: Callable[[Tensor], Tensor], change_state: Callable[[Tensor], Tensor]) -> Batch:
        """`change` of what has time, `change_state` of the state."""
        kept = [name for name in self.__dataclass_fields__ if name not in ("extras", "state")]
        return Batch(
            **{name: change(getattr(self, name)) for name in kept},
            state=change_state(self.state),
            extras={name: change(x) for name, x in self.extras.items()},
        )


def _at(x: Tensor, places: Tensor) -> Tensor:
    """[1, n, …]: the steps of x [T, N, …] at these places of [T·N]."""
    return x.flatten(0, 1)[None, places]


def stack_frames(rollouts: Sequence[Rollout]) -> Tensor:
    """The observations [T+1, N, *O] of rollouts that keep each frame once.

    With a stack of S frames, O is (S, *frame), oldest first, and frames before the episode's first
    one are zero, as the emulator gives them.
    """
    first = rollouts[0]
    steps, envs = first.reward.shape
    stack = len(first.frames) - steps
    if stack == 1:
        return torch.cat([r.frames for r in rollouts], 1)
    frame = first.frames.shape[2:]
    out = torch.empty(steps + 1, len(rollouts) * envs, stack, *frame, dtype=first.frames.dtype)
    for m, rollout in enumerate(rollouts):
        columns = out[:, m * envs : (m + 1) * envs]
        for place in range(stack):
            columns[:, :, place] = rollout.frames[place : place + steps + 1]
        older = torch.arange(stack - 1, -1, -1, dtype=torch.int32)  # how many frames before the newest
        foreign = older > _age(rollout)[..., None]
        if foreign.any():
            columns[foreign] = 0
    return out


def _age(rollout: Rollout) -> Tensor:
    """[T+1, B]: frames of the same episode before the one seen at step t."""
    frames_since_reset = torch.empty(rollout.reset.shape, dtype=torch.int32)
    frames_since_reset[0] = rollout.frames_since_reset
    for t, valid in enumerate(rollout.valid):
        frames_since_reset[t + 1] = torch.where(valid, frames_since_reset[t] + 1, 0)
    return frames_since_reset
