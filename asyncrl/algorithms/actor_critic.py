"""Episodic actor-critic: one update per episode, with a critic that is learned (Sutton and Barto 2018, section 13.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.policy_based import sample_action
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, FullEpisodes
from asyncrl.networks import ActorCritic, NetworkConfig

__all__ = ["EpisodicActorCritic"]


@dataclass(frozen=True)
class EpisodicActorCritic(Algorithm):
    """A3C's loss on whole episodes, with a Huber loss for the critic; an episode that was cut off bootstraps."""

    name: ClassVar[str] = "actor-critic"
    summary: ClassVar[str] = "one update per episode, returns against a learned critic"
    network: ClassVar = ActorCritic
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 1e-3, decay=0.999)

    longest_episode: int = 1_000
    """Steps after which an episode is cut off."""
    discount: float = 0.99
    """γ, per step."""
    gae_lambda: float = 1.0
    """λ: 1 compares whole returns with the critic, 0 only the next step's."""
    normalize_advantage: bool = True
    """Advantages of an update have mean 0 and standard deviation 1."""
    entropy_cost: float = 0.0
    """Weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the critic's Huber loss."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "longest_episode")
        within(self, 0, 1, "discount", "gae_lambda")
        within(self, 0, math.inf, "entropy_cost", "value_cost")

    def experience(self) -> FullEpisodes:
        return FullEpisodes(self.longest_episode)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, state = network(batch.observation[:-1], batch.state, batch.valid)
        with torch.no_grad():
            bootstrap = target(batch.observation[-1:], state).value
        values = torch.cat([value.detach(), bootstrap])
        discount = self.discount * (~batch.terminated).float()
        errors = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)
        returns, advantage = values[:-1] + errors, errors
        if self.normalize_advantage:
            mean = masked_mean(errors, batch.valid)
            deviation = masked_mean((errors - mean).square(), batch.valid).sqrt()
            advantage = (errors - mean) / (deviation + 1e-8)

        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        value_loss = masked_mean(F.smooth_l1_loss(value, returns, reduction="none"), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean_value = masked_mean(value, batch.valid)
        return Loss.of(total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean_value)
