"""Proximal policy optimization (Schulman et al. 2017) with asynchronous actors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.returns import masked_mean, multistep_errors, normalize
from asyncrl.algorithms.sampling import sample_action
from asyncrl.common.search_space import DISCOUNTS, ENTROPY_COSTS, TRACES, Choices
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy, PreparedBatch
from asyncrl.networks import ActorCritic, NetworkConfig, standardized, value_std

__all__ = ["PPO"]


@dataclass(frozen=True)
class PPO(Algorithm):
    """The clipped surrogate objective in epochs of minibatches (Schulman et al. 2017, equations 7, 9 and 11).

        ratio_t = π(a_t|s_t) / μ(a_t|s_t)
        L = mean [−min(ratio_t·A_t, clip(ratio_t, 1 − ε, 1 + ε)·A_t) + c·(R_t − V(s_t))² − β·H(π(·|s_t))]

    A_t is GAE(λ) (Schulman et al. 2016, equation 16) and R_t = A_t + V(s_t), both computed with the learner's network
    at the beginning of the update. μ is the policy that acted, so the clip also bounds the effect of policy lag.
    """

    name: ClassVar[str] = "ppo"
    summary: ClassVar[str] = "proximal policy optimization: clipped ratios, epochs of minibatches (Schulman et al. 2017)"
    network: ClassVar = ActorCritic
    learns_value = True
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 2.5e-4, decay=0.999)
    reports_kl: ClassVar[bool] = True
    is_capturable: ClassVar[bool] = True

    t_max: Annotated[int, Choices(64, 128, 256, 512)] = 128
    """Steps per rollout."""
    epochs: Annotated[int, Choices(3, 5, 10)] = 4
    """Passes of an update over its rollouts."""
    minibatches: Annotated[int, Choices(2, 4, 8)] = 4
    """Minibatches per epoch: shuffled steps, or whole sequences with a recurrent network."""
    discount: Annotated[float, DISCOUNTS] = 0.99
    """Discount factor γ per step."""
    gae_lambda: Annotated[float, TRACES] = 0.95
    """λ of generalized advantage estimation (Schulman et al. 2016)."""
    clip_range: Annotated[float, Choices(0.1, 0.2, 0.3, 0.4)] = 0.2
    """Clip ε of the probability ratio."""
    value_clip_range: float = 0.0
    """Clip of the value's change within an update; 0 for no clipping. In standardized units with --normalize-value."""
    max_kl: float = 0.0
    """End an update before the first minibatch whose KL estimate exceeds this, in nats; 0 never does. Stable-Baselines3 and
    Spinning Up stop at 1.5 times their target KL."""
    normalize_advantage: bool = True
    """Normalize the advantages of a minibatch to mean 0 and (population) standard deviation 1."""
    entropy_cost: Annotated[float, ENTROPY_COSTS] = 0.01
    """Weight β of the entropy bonus."""
    value_cost: Annotated[float, Choices(0.25, 0.5, 1.0)] = 0.5
    """Weight c of the value's mean squared error (without a factor ½)."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max", "epochs", "minibatches")
        within(self, 0, 1, "discount", "gae_lambda")
        within(self, 0, math.inf, "clip_range", "value_clip_range", "max_kl", "entropy_cost", "value_cost")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max, epochs=self.epochs, minibatches=self.minibatches)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context, log_prob=True)

    def prepare(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> PreparedBatch:
        """Add `advantage` and `value` [T, N] to the batch's extras."""
        values = target(batch.observation, batch.state, batch.valid).value  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        advantage = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)
        return batch.with_targets(advantage=advantage, value=values[:-1])

    def loss(self, network: ActorCritic, target: ActorCritic, batch: PreparedBatch) -> Loss:
        policy, value, _ = network(batch.observation, batch.state, batch.valid)
        valid, advantage, old_value = batch.valid, batch.extras["advantage"], batch.extras["value"]
        returns = old_value + advantage
        advantage = normalize(advantage, valid) if self.normalize_advantage else standardized(advantage, network)

        log_ratio = policy.log_prob(batch.action) - batch.extras["log_prob"]
        ratio = log_ratio.exp()
        clipped_ratio = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        policy_loss = masked_mean(-torch.min(ratio * advantage, clipped_ratio * advantage), valid)
        error = standardized(returns - value, network).square()
        if self.value_clip_range:
            limit = self.value_clip_range * value_std(network)
            clipped_value = old_value + (value - old_value).clamp(-limit, limit)
            error = torch.max(error, standardized(returns - clipped_value, network).square())
        value_loss, entropy = masked_mean(error, valid), masked_mean(policy.entropy(), valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy

        with torch.no_grad():
            kl = masked_mean(ratio - 1 - log_ratio, valid)  # the non-negative estimator k3 of Schulman 2020
            clip_fraction = masked_mean((ratio != clipped_ratio).float(), valid)
        metrics = dict(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, kl=kl, clip_fraction=clip_fraction)
        loss = Loss.of(total, **metrics)
        stops = kl > self.max_kl if self.max_kl else False
        return loss._replace(early_stop=stops, value_targets=(returns, valid))
