"""Asynchronous one-step Q-learning (Mnih et al. 2016, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.returns import multistep_errors
from asyncrl.algorithms.value_based import ValueBasedMethod, squared_error
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import QNetwork

__all__ = ["OneStepQ"]


@dataclass(frozen=True)
class OneStepQ(ValueBasedMethod):
    """y = r + γ·max_a Q(s′, a; θ⁻), and the mean of (y − Q(s, a; θ))² over an update's steps."""

    name: ClassVar[str] = "one-step-q"
    summary: ClassVar[str] = "asynchronous one-step Q-learning with a target network (Mnih et al. 2016)"

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        with torch.no_grad():
            best = target(batch.observation, batch.state, batch.valid)[0].amax(-1)  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        y = best[:-1] + multistep_errors(batch.reward, discount, best, batch.valid, trace=0.0)
        q = network(batch.observation[:-1], batch.state, batch.valid).q
        return squared_error(q, batch.action, y, batch.valid)
