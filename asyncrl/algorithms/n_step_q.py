"""Asynchronous n-step Q-learning (Mnih et al. 2016, algorithm S2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.returns import multistep_errors
from asyncrl.algorithms.value_based import ValueBasedMethod, squared_error
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import QNetwork

__all__ = ["NStepQ"]


@dataclass(frozen=True)
class NStepQ(ValueBasedMethod):
    """R_t = r_t + γ·R_{t+1}, R_T = max_a Q(s_T, a; θ⁻): the first state of a rollout has the longest return."""

    name: ClassVar[str] = "n-step-q"
    summary: ClassVar[str] = "asynchronous n-step Q-learning with a target network (Mnih et al. 2016)"

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        with torch.no_grad():
            best = target(batch.observation, batch.state, batch.valid)[0].amax(-1)  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        returns = best[:-1] + multistep_errors(batch.reward, discount, best, batch.valid, trace=1.0)
        q = network(batch.observation[:-1], batch.state, batch.valid).q
        return squared_error(q, batch.action, returns, batch.valid)
