"""Converts an environment's rewards to those that an agent learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # environment workers do without torch
    from torch import Tensor

__all__ = ["Rewards"]


@dataclass(frozen=True)
class Rewards:
    """Replaces the reward of terminating steps, then scales, clips and divides. Reported returns are not affected."""

    scale: float = 1.0
    clip: float | None = None
    """Largest absolute value; None for no clipping."""
    final: float | None = None
    """Reward of a terminating step, before scaling and clipping; None for the environment's."""
    spread: float | None = None
    """Divisor of rewards after all that, which are then clipped to ±10; None for no division (`--normalize-return`)."""

    def learned(self, reward: Tensor, terminated: Tensor) -> Tensor:
        """Return the rewards to learn from; both arguments have the same shape, which may be any."""
        if self.final is not None:
            reward = reward.where(~terminated, self.final)
        reward = reward * self.scale
        reward = reward if self.clip is None else reward.clamp(-self.clip, self.clip)
        return reward if self.spread is None else (reward / self.spread).clamp(-10.0, 10.0)
