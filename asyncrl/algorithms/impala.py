"""IMPALA: actor-critic with V-trace targets, which correct for policy lag (Espeholt et al. 2018)."""

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

__all__ = ["Impala"]


@dataclass(frozen=True)
class Impala(Algorithm):
    """V-trace actor-critic (Espeholt et al. 2018, equation 1 and section 4.2).

        ratio_t = π(a_t|s_t) / μ(a_t|s_t),  ρ_t = min(ρ̄, ratio_t),  c_t = λ·min(c̄, ratio_t)
        v_t = V(s_t) + Σ_k γ^k·(c_t ⋯ c_{t+k−1})·ρ_{t+k}·(r_{t+k} + γ·V(s_{t+k+1}) − V(s_{t+k}))
        A_t = ρ_t·(r_t + γ·v_{t+1} − V(s_t))
        L = mean [−log π(a_t|s_t)·A_t + c·(v_t − V(s_t))² − β·H(π(·|s_t))]

    μ is the policy that acted. ρ_t, v_t and A_t are constant in the gradient. The mean is over an update's valid
    steps; TorchBeast sums.
    """

    name: ClassVar[str] = "impala"
    summary: ClassVar[str] = "actor-critic with V-trace: corrects for the lag between acting and learning (Espeholt 2018)"
    is_capturable: ClassVar[bool] = True
    network: ClassVar = ActorCritic
    learns_value = True

    t_max: Annotated[int, Choices(5, 10, 20, 40, 80)] = 20
    """Steps per rollout."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    vtrace_lambda: Annotated[float, TRACES] = 1.0
    """λ of the traces (remark 2 of the paper). Advantages bootstrap from v_{t+1} for every λ, as in the paper; RLax mixes
    v_{t+1} with V(s_{t+1}), which is GAE on-policy."""
    rho_clip: float = 1.0
    """Clip ρ̄ of the importance weights of TD errors; determines which policy the value converges to."""
    c_clip: float = 1.0
    """Clip c̄ of the importance weights of traces; determines how fast the value converges."""
    entropy_cost: Annotated[float, ENTROPY_COSTS] = 0.01
    """Weight β of the entropy bonus."""
    value_cost: Annotated[float, Choices(0.25, 0.5, 1.0)] = 0.5
    """Weight c of the value's mean squared error (without a factor ½)."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max")
        within(self, 0, 1, "discount", "vtrace_lambda")
        within(self, 0, math.inf, "rho_clip", "c_clip", "entropy_cost", "value_cost")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context, log_prob=True)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, state = network(batch.observation[:-1], batch.state, batch.valid)
        log_prob = policy.log_prob(batch.action)
        with torch.no_grad():
            bootstrap = target(batch.observation[-1:], state).value  # [1, N]
            ratio = (log_prob - batch.extras["log_prob"]).exp()  # [T, N]
            rho = ratio.clamp(max=self.rho_clip)
            trace = self.vtrace_lambda * ratio.clamp(max=self.c_clip)
            values = torch.cat([value, bootstrap])  # [T+1, N]
            discount = self.discount * (~batch.terminated).float()
            errors = multistep_errors(batch.reward, discount, values, batch.valid, trace=trace, weight=rho)
            returns = values[:-1] + errors  # v_t; on a reset step V(s_t), so truncation needs no special case
            next_returns = torch.cat([returns[1:], bootstrap])  # v_{t+1}
            advantage = rho * (batch.reward + discount * next_returns - values[:-1])

        policy_loss = masked_mean(-log_prob * standardized(advantage, network), batch.valid)
        value_loss = masked_mean(standardized(returns - value, network).square(), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        loss = Loss.of(
            total,
            policy_loss=policy_loss,
            value_loss=value_loss,
            entropy=entropy,
            value=masked_mean(value, batch.valid),
            importance=masked_mean(ratio, batch.valid),
        )
        return loss._replace(value_targets=(returns, batch.valid))
