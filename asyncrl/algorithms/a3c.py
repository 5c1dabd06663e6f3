"""Asynchronous advantage actor-critic (Mnih et al. 2016, "Asynchronous Methods for Deep RL", algorithm S3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.policy_based import sample_action
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import ActorCritic, NetworkConfig

__all__ = ["A3C"]


@dataclass(frozen=True)
class A3C(Algorithm):
    """n-step advantage actor-critic; the gradient is the mean over all steps of an update's rollouts."""

    name: ClassVar[str] = "a3c"
    summary: ClassVar[str] = "asynchronous advantage actor-critic: n-step returns, entropy bonus (Mnih et al. 2016)"
    network: ClassVar = ActorCritic

    t_max: int = 5
    """Steps per rollout: the longest return before the value takes over."""
    discount: float = 0.99
    """γ, per step."""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (Schulman et al. 2016); 1 is the n-step return of the paper."""
    entropy_cost: float = 0.01
    """β: weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the mean squared error of the value, without ½."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max")
        within(self, 0, 1, "discount", "gae_lambda")
        within(self, 0, math.inf, "entropy_cost", "value_cost")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, state = network(batch.observation[:-1], batch.state, batch.valid)
        with torch.no_grad():
            bootstrap = target(batch.observation[-1:], state).value  # [1, N]

        values = torch.cat([value.detach(), bootstrap])  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        advantage = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)

        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        value_loss = masked_mean((values[:-1] + advantage - value).square(), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean = masked_mean(value, batch.valid)
        return Loss.of(total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean)
