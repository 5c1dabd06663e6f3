"""REINFORCE: Monte Carlo policy gradient (Williams 1992)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.returns import masked_mean, multistep_errors, normalize
from asyncrl.algorithms.sampling import sample_action
from asyncrl.common.search_space import DISCOUNTS, ENTROPY_COSTS, Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Batch, FullEpisodes
from asyncrl.networks import ActorCritic, NetworkConfig, standardized

__all__ = ["Baseline", "Reinforce"]


class Baseline(Enum):
    """The baseline subtracted from returns."""

    NONE = "none"
    MEAN = "mean"
    """the update's mean return; the difference is also divided by the standard deviation"""
    LEARNED = "learned"
    """a learned state value"""


@dataclass(frozen=True)
class Reinforce(Algorithm):
    """Monte Carlo policy gradient (Williams 1992; Sutton and Barto 2018, equations 13.8 and 13.11).

        G_t = Σ_k γ^k·r_{t+k}, summed to the first terminated step or the end of the episode
        L = mean [−log π(a_t|s_t)·(G_t − b) − β·H(π(·|s_t))]

    With `baseline` LEARNED, b = V(s_t) and c·(G_t − V(s_t))² is added to the loss. Returns never bootstrap, not
    even where an episode is cut off. The policy gradient is not weighted with γ^t.
    """

    name: ClassVar[str] = "reinforce"
    summary: ClassVar[str] = "Monte-Carlo policy gradient on whole episodes (Williams 1992)"
    network: ClassVar = ActorCritic
    learns_value = True
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 1e-3, decay=0.999)

    longest_episode: int = 1_000
    """Steps after which an episode is cut off."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    baseline: Annotated[Baseline, Choices(*Baseline)] = Baseline.MEAN
    """Baseline b subtracted from returns."""
    entropy_cost: Annotated[float, ENTROPY_COSTS] = 0.0
    """Weight β of the entropy bonus."""
    value_cost: float = 0.5
    """Weight c of the learned baseline's mean squared error."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "longest_episode")
        within(self, 0, 1, "discount")
        within(self, 0, math.inf, "entropy_cost", "value_cost")
        if network.normalize_value and self.baseline is not Baseline.LEARNED:
            raise UsageError(
                f"--normalize-value: reinforce with --baseline {self.baseline.value} has no value; use --baseline learned"
            )

    def experience(self) -> FullEpisodes:
        return FullEpisodes(self.longest_episode)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context)

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, _ = network(batch.observation[:-1], batch.state, batch.valid)
        zeros = batch.reward.new_zeros(len(batch.reward) + 1, *batch.reward.shape[1:])  # values: no bootstrap
        discount = self.discount * (~batch.terminated).float()  # a lost life may terminate before the episode's end
        returns = multistep_errors(batch.reward, discount, zeros, batch.valid)  # [T, N]

        match self.baseline:
            case Baseline.NONE:
                advantage = returns
            case Baseline.MEAN:
                advantage = normalize(returns, batch.valid)
            case Baseline.LEARNED:
                advantage = standardized(returns - value.detach(), network)

        policy_loss = masked_mean(-policy.log_prob(batch.action) * advantage, batch.valid)
        entropy = masked_mean(policy.entropy(), batch.valid)
        total = policy_loss - self.entropy_cost * entropy
        metrics = dict(policy_loss=policy_loss, entropy=entropy, discounted_return=masked_mean(returns, batch.valid))
        if self.baseline is Baseline.LEARNED:
            metrics["value_loss"] = masked_mean(standardized(returns - value, network).square(), batch.valid)
            total = total + self.value_cost * metrics["value_loss"]
        loss = Loss.of(total, **metrics)
        return loss._replace(value_targets=(returns, batch.valid))
