"""Asynchronous n-step Q-learning (Mnih et al. 2016, algorithm S2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.value_based import ValueBasedMethod, q_learning_loss
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import QNetwork

__all__ = ["NStepQ"]


@dataclass(frozen=True)
class NStepQ(ValueBasedMethod):
    """n-step Q-learning in the forward view (Mnih et al. 2016, algorithm S2).

        L(θ) = mean (R_t − Q(s_t, a_t; θ))²,  R_t = r_t + γ·R_{t+1},  R_T = max_a Q(s_T, a; θ⁻)

    Each step uses the longest return its rollout allows: T steps for the first, one for the last. R_t = r_t where
    the step terminated, and r_t + γ·max_a Q(s_{t+1}, a; θ⁻) where the episode was truncated.
    """

    name: ClassVar[str] = "n-step-q"
    summary: ClassVar[str] = "asynchronous n-step Q-learning with a target network (Mnih et al. 2016)"
    is_capturable: ClassVar[bool] = True

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        return q_learning_loss(network, target, batch, self.discount, trace=1.0)
