"""Episodic actor-critic: policy gradient on whole episodes against a learned critic (Sutton and Barto 2018, chapter 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.returns import masked_mean, multistep_errors, normalize
from asyncrl.algorithms.sampling import sample_action
from asyncrl.common.search_space import DISCOUNTS, ENTROPY_COSTS, TRACES, Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, FullEpisodes
from asyncrl.networks import ActorCritic, NetworkConfig, standardized

__all__ = ["EpisodicActorCritic"]


@dataclass(frozen=True)
class EpisodicActorCritic(Algorithm):
    """Actor-critic with one update per batch of whole episodes (Sutton and Barto 2018, sections 13.4 and 13.5).

        δ_t = r_t + γ·V(s_{t+1}) − V(s_t),  A_t = Σ_k (γλ)^k·δ_{t+k},  G_t = A_t + V(s_t)
        L = mean [−log π(a_t|s_t)·A_t + c·huber(G_t − V(s_t)) − β·H(π(·|s_t))]

    λ = 1 is REINFORCE with a baseline (equation 13.11), λ = 0 the one-step actor-critic (equation 13.12). The last
    step of an episode cut off at `longest_episode` bootstraps from V; a terminated one does not.
    """

    name: ClassVar[str] = "actor-critic"
    summary: ClassVar[str] = "one update per batch of whole episodes, returns against a learned critic"
    network: ClassVar = ActorCritic
    learns_value = True
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 1e-3, decay=0.999)

    longest_episode: int = 1_000
    """Steps after which an episode is cut off."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    gae_lambda: Annotated[float, TRACES] = 1.0
    """λ of the advantages: 1 for full returns, 0 for one-step TD errors."""
    normalize_advantage: bool = True
    """Normalize the advantages of an update to mean 0 and standard deviation 1."""
    entropy_cost: Annotated[float, ENTROPY_COSTS] = 0.0
    """Weight β of the entropy bonus."""
    value_cost: Annotated[float, Choices(0.25, 0.5, 1.0)] = 0.5
    """Weight c of the critic's Huber loss."""

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
            bootstrap = target(batch.observation[-1:], state).value  # [1, N]

        values = torch.cat([value.detach(), bootstrap])  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        advantage = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)
        returns = values[:-1] + advantage  # [T, N]
        advantage = normalize(advantage, batch.valid) if self.normalize_advantage else standardized(advantage, network)

        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        error = standardized(value, network), standardized(returns, network)
        value_loss = masked_mean(F.smooth_l1_loss(*error, reduction="none"), batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy
        mean_value = masked_mean(value, batch.valid)
        loss = Loss.of(total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, value=mean_value)
        return loss._replace(value_targets=(returns, batch.valid))
