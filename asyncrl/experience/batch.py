"""Rollouts side by side: what a loss is computed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.rollout import Rollout

__all__ = ["Batch", "stack_frames"]


@dataclass(frozen=True)
class Batch:
    """M rollouts along the environments: N = M·B columns. Row t: seen, done and got at step t."""

    observation: Tensor
    """[T+1, N, *O]; row T is where the next rollout begins"""
    action: Tensor
    """[T, N] int64"""
    reward: Tensor
    """[T, N] float32, scaled and clipped as the contract says"""
    terminated: Tensor
    """[T, N] bool"""
    valid: Tensor
    """[T, N] bool: False on a reset step"""
    acted: dict[str, Tensor]
    """[T, N, …]"""

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], reward_scale: float = 1.0, reward_clip: float | None = None) -> Batch:
        """Copy rollouts out of their slots."""
        reward = torch.cat([r.reward for r in rollouts], 1) * reward_scale
        return cls(
            observation=stack_frames(rollouts),
            action=torch.cat([r.action for r in rollouts], 1),
            reward=reward if reward_clip is None else reward.clamp(-reward_clip, reward_clip),
            terminated=torch.cat([r.terminated for r in rollouts], 1),
            valid=torch.cat([r.valid for r in rollouts], 1),
            acted={name: torch.cat([r.acted[name] for r in rollouts], 1) for name in rollouts[0].acted},
        )

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        moved = {name: getattr(self, name).to(device) for name in self.__dataclass_fields__ if name != "acted"}
        return Batch(**moved, acted={name: x.to(device) for name, x in self.acted.items()})


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
    age = torch.empty(rollout.reset.shape, dtype=torch.int32)
    age[0] = rollout.age
    for t, valid in enumerate(rollout.valid):
        age[t + 1] = torch.where(valid, age[t] + 1, 0)
    return age
