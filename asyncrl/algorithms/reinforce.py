"""REINFORCE: Monte-Carlo policy gradient (Williams 1992)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.policy_based import sample_action
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, FullEpisodes
from asyncrl.networks import ActorCritic, NetworkConfig

__all__ = ["Baseline", "Reinforce"]


class Baseline(Enum):
    """What is subtracted from a return."""

    NONE = "none"
    MEAN = "mean"
    """the mean return of the update; returns are divided by their standard deviation too"""
    LEARNED = "learned"
    """a value that is learned beside the policy"""


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """∇ log π(a_t|s_t)·(G_t − b), G_t = Σ γ^k·r_{t+k} to the first step that terminates. Nothing is bootstrapped."""

    name: ClassVar[str] = "reinforce"
    summary: ClassVar[str] = "Monte-Carlo policy gradient on whole episodes (Williams 1992)"
    network: ClassVar = ActorCritic
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 1e-3, decay=0.999)

    longest_episode: int = 1_000
    """Steps after which an episode is cut off."""
    discount: float = 0.99
    """γ, per step."""
    baseline: Baseline = Baseline.MEAN
    """What is subtracted from a return."""
    entropy_cost: float = 0.0
    """Weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the learned baseline's squared error."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "longest_episode")
        within(self, 0, 1, "discount")
        within(self, 0, math.inf, "entropy_cost", "value_cost")

    def experience(self) -> FullEpisodes:
        return FullEpisodes(self.longest_episode)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, _ = network(batch.observation[:-1], batch.state, batch.valid)
        nothing = batch.reward.new_zeros(len(batch.reward) + 1, *batch.reward.shape[1:])
        discount = self.discount * (~batch.terminated).float()  # a lost life may terminate before the episode's end
        returns = multistep_errors(batch.reward, discount, nothing, batch.valid)  # [T, N]

        mean = masked_mean(returns, batch.valid)
        error = masked_mean((returns - value).square(), batch.valid)
        match self.baseline:
            case Baseline.NONE:
                advantage = returns
            case Baseline.MEAN:
                deviation = masked_mean((returns - mean).square(), batch.valid).sqrt()
                advantage = (returns - mean) / (deviation + 1e-8)
            case Baseline.LEARNED:
                advantage = returns - value.detach()

        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss - self.entropy_cost * entropy
        if self.baseline is Baseline.LEARNED:
            total = total + self.value_cost * error
        return Loss.of(total, policy_loss=policy_loss, value_loss=error, entropy=entropy, discounted_return=mean)
