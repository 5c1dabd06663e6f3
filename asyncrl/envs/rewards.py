"""From the reward that an environment gave to the one that is learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # environment workers do without torch
    from torch import Tensor

__all__ = ["Rewards"]


@dataclass(frozen=True)
class Rewards:
    """Scaled, then clipped; where an episode terminated, another one altogether. Scores are never touched."""

    scale: float = 1.0
    clip: float | None = None
    """Largest absolute value."""
    final: float | None = None
    """What a step that terminates is rewarded with instead, before it is scaled and clipped."""

    def learned(self, reward: Tensor, terminated: Tensor) -> Tensor:
        """What is learned from, of rewards and terminations of any shape."""
        if self.final is not None:
            reward = reward.where(~terminated, self.final)
        reward = reward * self.scale
        return reward if self.clip is None else reward.clamp(-self.clip, self.clip)
