"""IMPALA: actor-critic whose V-trace targets correct for policy lag (Espeholt et al. 2018)."""

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

__all__ = ["Impala"]


@dataclass(frozen=True)
class Impala(Algorithm):
    """With ρ_t = π(a_t|s_t) / μ(a_t|s_t), μ the policy that acted: section 4.1, equations 1 and 4. Losses are means over
    the steps of an update, where torchbeast's are sums.
    """

    name: ClassVar[str] = "impala"
    summary: ClassVar[str] = "actor-critic with V-trace: corrects for the lag between acting and learning (Espeholt 2018)"
    network: ClassVar = ActorCritic

    t_max: int = 20
    """Steps per rollout."""
    discount: float = 0.99
    """γ, per step."""
    trace_lambda: float = 1.0
    """λ: how far errors reach back, beside the clipped ratios. Advantages bootstrap from v_{t+1} whatever λ is, as in the
    paper; rlax mixes in the value, so that on-policy it is GAE."""
    rho_clip: float = 1.0
    """ρ̄: largest weight of an error; what the value converges to."""
    c_clip: float = 1.0
    """c̄: largest weight that an error is passed back with; how fast it converges."""
    entropy_cost: float = 0.01
    """Weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the mean squared error of the value, without ½."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max")
        within(self, 0, 1, "discount", "trace_lambda")
        within(self, 0, math.inf, "rho_clip", "c_clip", "entropy_cost", "value_cost")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context, log_prob=True)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, state = network(batch.observation[:-1], batch.state, batch.valid)
        log_prob = policy.log_prob(batch.action)
        with torch.no_grad():
            bootstrap = target(batch.observation[-1:], state).value
            ratio = (log_prob - batch.extras["log_prob"]).exp()  # ρ_t
            weight, trace = ratio.clamp(max=self.rho_clip), self.trace_lambda * ratio.clamp(max=self.c_clip)
            values = torch.cat([value, bootstrap])
            discount = self.discount * (~batch.terminated).float()
            errors = multistep_errors(batch.reward, discount, values, batch.valid, trace, weight)  # v_t − V_t
            target_value = values[:-1] + errors
            after = torch.cat([target_value[1:], bootstrap])  # v_{t+1}
            # The target of a reset step is V of the true last observation: truncation needs no case of its own.
            advantage = weight * (batch.reward + discount * after - values[:-1])

        policy_loss = masked_mean(-log_prob * advantage, batch.valid)
        value_loss = masked_mean((target_value - value).square(), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean, mean_ratio = masked_mean(value, batch.valid), masked_mean(ratio, batch.valid)
        return Loss.of(
            total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean, importance=mean_ratio
        )
