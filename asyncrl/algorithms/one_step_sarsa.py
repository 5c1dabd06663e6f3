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
    """One-step SARSA with a target network (Mnih et al. 2016, section 4; Rummery and Niranjan 1994).

        L(θ) = mean (y_t − Q(s_t, a_t; θ))²,  y_t = r_t + γ·Q(s_{t+1}, a_{t+1}; θ⁻)

    where a_{t+1} is the ε-greedy policy's action in s_{t+1}. Rollouts overlap by one step, so that a_{t+1} is
    known for the last step too. After a truncation a_{t+1} is the action chosen for the episode's last observation,
    although the environment ignores it.
    """

    name: ClassVar[str] = "one-step-sarsa"
    summary: ClassVar[str] = "asynchronous one-step SARSA: bootstraps from the action taken next (Mnih et al. 2016)"
    is_capturable: ClassVar[bool] = True

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max, overlap=1)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        # The batch has T + 1 steps; the last one only provides a_{t+1}.
        observation, valid = batch.observation[:-1], batch.valid[:-1]
        with torch.no_grad():
            next_q = gather_q(target(observation, batch.state, valid).q, batch.action)  # [T+1, N]
        discount = self.discount * (~batch.terminated[:-1]).float()
        y = next_q[:-1] + multistep_errors(batch.reward[:-1], discount, next_q, valid, trace=0.0)
        q = network(observation[:-1], batch.state, valid).q
        return squared_error(q, batch.action[:-1], y, valid)
