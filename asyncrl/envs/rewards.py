"""Converts an environment's rewards to those that an agent learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # environment workers do without torch
    from torch import Tensor

__all__ = ["Rewards"]


@dataclass(frozen=True)
class Rewards:
    """Replaces the reward of terminating steps, then scales, then clips. Reported returns are not affected."""

    scale: float = 1.0
    clip: float | None = None
    """Largest absolute value; None for no clipping."""
    final: float | None = None
    """Reward of a terminating step, before scaling and clipping; None for the environment's."""

    def learned(self, reward: Tensor, terminated: Tensor) -> Tensor:
        """Return the rewards to learn from; both arguments have the same shape, which may be any."""
        if self.final is not None:
            reward = reward.where(~terminated, self.final)
        reward = reward * self.scale
        return reward if self.clip is None else reward.clamp(-self.clip, self.clip)
