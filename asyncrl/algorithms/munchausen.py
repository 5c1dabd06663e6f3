"""Munchausen targets: Q-learning that adds the policy's log-probability to the reward (Vieillard et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.common.validation import within

__all__ = ["Munchausen"]


@dataclass(frozen=True)
class Munchausen:
    """Settings of Munchausen targets (M-DQN of Vieillard et al. 2020, "Munchausen Reinforcement Learning").

    π = softmax(Q / τ)
    y = r + α·clip(τ·log π(a|s), l_0, 0) + γ·Σ_a′ π(a′|s′)·(Q⁻(s′, a′) − τ·log π(a′|s′))
    """

    munchausen: bool = False
    """Munchausen targets: add the scaled log-probability of the action to the reward, and bootstrap from the soft value of
    the policy softmax(Q/τ) instead of the best action (Vieillard et al. 2020)."""
    munchausen_scale: float = 0.9
    """Scale α of the log-probability."""
    munchausen_temperature: float = 0.03
    """Temperature τ of the policy, in units of the learned rewards."""
    munchausen_clip: float = -1.0
    """Lower bound l_0 of τ·log π."""

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        within(self, 0, 1, "munchausen_scale")
        within(self, 0, 1e6, "munchausen_temperature", above=True)
        within(self, -1e6, 0, "munchausen_clip")

    def bonus(self, q: Tensor, action: Tensor) -> Tensor:
        """Return α·clip(τ·log π(a|s), l_0, 0) [N] for action values `q` [N, A] and `action` [N] int64."""
        log_policy: Tensor = (q / self.munchausen_temperature).log_softmax(-1).gather(-1, action[:, None]).squeeze(-1)
        clipped = (self.munchausen_temperature * log_policy).clamp(self.munchausen_clip, 0)
        return self.munchausen_scale * clipped

    def soft_value(self, q: Tensor, outputs: Tensor) -> Tensor:
        """Return Σ_a π(a)·(outputs_a − τ·log π(a)) [N, K], π the softmax policy of `q` [N, A], for `outputs` [N, A, K].

        An action that is not allowed has the lowest finite q, so its probability is 0.
        """
        policy = (q / self.munchausen_temperature).softmax(-1)
        entropy: Tensor = torch.special.entr(policy).sum(-1, keepdim=True)
        return (policy[..., None] * outputs).sum(-2) + self.munchausen_temperature * entropy
