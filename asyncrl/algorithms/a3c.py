"""Asynchronous advantage actor-critic (Mnih et al. 2016, "Asynchronous Methods for Deep RL", algorithm S3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.algorithms.sampling import sample_action
from asyncrl.common.search_space import DISCOUNTS, ENTROPY_COSTS, TRACES, Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import ActorCritic, NetworkConfig, standardized

__all__ = ["A3C"]


@dataclass(frozen=True)
class A3C(Algorithm):
    """Advantage actor-critic with n-step returns (Mnih et al. 2016, section 4 and algorithm S3).

        R_t = r_t + γ·R_{t+1},  R_T = V(s_T; θ_v),  A_t = R_t − V(s_t; θ_v)
        L = mean [−log π(a_t|s_t; θ)·A_t + c·(R_t − V(s_t; θ_v))² − β·H(π(·|s_t; θ))]

    A_t is constant in the policy's gradient, R_t in the value's. The mean is over the valid steps of an update's
    rollouts; the paper sums. R_t = r_t where the step terminated. With `gae_lambda` λ below 1, A_t is GAE(λ) (Schulman
    et al. 2016, equation 16) and R_t = A_t + V(s_t).
    """

    name: ClassVar[str] = "a3c"
    summary: ClassVar[str] = "asynchronous advantage actor-critic: n-step returns, entropy bonus (Mnih et al. 2016)"
    is_capturable: ClassVar[bool] = True
    network: ClassVar = ActorCritic
    learns_value = True

    t_max: Annotated[int, Choices(5, 10, 20, 40, 80)] = 5
    """Steps per rollout: the longest n-step return."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    gae_lambda: Annotated[float, TRACES] = 1.0
    """λ of generalized advantage estimation (Schulman et al. 2016); 1 gives the n-step returns of the A3C paper."""
    entropy_cost: Annotated[float, ENTROPY_COSTS] = 0.01
    """Weight β of the entropy bonus."""
    value_cost: Annotated[float, Choices(0.25, 0.5, 1.0)] = 0.5
    """Weight c of the value's mean squared error (without a factor ½)."""

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
        returns = values[:-1] + advantage  # [T, N]

        advantage = standardized(advantage, network)
        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        value_loss = masked_mean(standardized(returns - value, network).square(), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean_value = masked_mean(value, batch.valid)
        loss = Loss.of(total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean_value)
        return loss._replace(value_targets=(returns, batch.valid))
