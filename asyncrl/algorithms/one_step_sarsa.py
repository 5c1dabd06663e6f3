"""Asynchronous one-step SARSA (Mnih et al. 2016, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.returns import multistep_errors
from asyncrl.algorithms.value_based import ValueBasedMethod, gather_q, squared_error
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import QNetwork

__all__ = ["OneStepSarsa"]


@dataclass(frozen=True)
class OneStepSarsa(ValueBasedMethod):
    """y = r + γ·Q(s′, a′; θ⁻), a′ being what the ε-greedy policy did in s′.

    Rollouts overlap by one step, so a′ is known after a rollout's last step too. After a truncation a′
    is what the policy chose for the true last observation, which the environment never came to take.
    """

    name: ClassVar[str] = "one-step-sarsa"
    summary: ClassVar[str] = "asynchronous one-step SARSA: bootstraps from the action taken next (Mnih et al. 2016)"

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max, overlap=1)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        # There are T + 1 steps: the last one only says what was done in s′.
        seen, valid = batch.observation[:-1], batch.valid[:-1]
        with torch.no_grad():
            taken = gather_q(target(seen, batch.state, valid)[0], batch.action)  # [T+1, N]
        discount = self.discount * (~batch.terminated[:-1]).float()
        y = taken[:-1] + multistep_errors(batch.reward[:-1], discount, taken, valid, trace=0.0)
        q = network(seen[:-1], batch.state, valid).q
        return squared_error(q, batch.action[:-1], y, valid)
