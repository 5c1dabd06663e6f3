"""Asynchronous one-step Q-learning (Mnih et al. 2016, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.value_based import ValueBasedMethod, q_learning_loss
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import QNetwork

__all__ = ["OneStepQ"]


@dataclass(frozen=True)
class OneStepQ(ValueBasedMethod):
    """One-step Q-learning with a target network (Mnih et al. 2016, algorithm 1).

        L(θ) = mean (y_t − Q(s_t, a_t; θ))²,  y_t = r_t + γ·max_a Q(s_{t+1}, a; θ⁻)

    and y_t = r_t where the step terminated. The mean is over the valid steps of an update's rollouts.
    """

    name: ClassVar[str] = "one-step-q"
    summary: ClassVar[str] = "asynchronous one-step Q-learning with a target network (Mnih et al. 2016)"
    is_capturable: ClassVar[bool] = True

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        return q_learning_loss(network, target, batch, self.discount, trace=0.0)
