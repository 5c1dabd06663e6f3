"""Proximal policy optimization (Schulman et al. 2017), fed by asynchronous actors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.policy_based import sample_action
from asyncrl.algorithms.returns import masked_mean, multistep_errors
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import ActorCritic, NetworkConfig

__all__ = ["PPO"]


@dataclass(frozen=True)
class PPO(Algorithm):
    """The clipped objective (equation 7) with generalized advantages, in epochs of minibatches.

    Ratios are taken to the policy that acted, so policy lag is part of what the clip holds in check;
    values and advantages are those of the network that learns, computed once at the beginning of an update.
    """

    name: ClassVar[str] = "ppo"
    summary: ClassVar[str] = "proximal policy optimization: clipped ratios, epochs of minibatches (Schulman et al. 2017)"
    network: ClassVar = ActorCritic
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 2.5e-4, decay=0.999)
    reports_kl: ClassVar[bool] = True

    t_max: int = 128
    """Steps per rollout."""
    epochs: int = 4
    """Times that an update goes through its rollouts."""
    minibatches: int = 4
    """Parts that each time takes them in, shuffled; whole sequences with a recurrent network."""
    discount: float = 0.99
    """γ, per step."""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation (Schulman et al. 2016)."""
    clip_range: float = 0.2
    """ε: how far a ratio may move before its gradient stops."""
    value_clip_range: float = 0.0
    """How far a value may move from the one it had at the beginning of the update; 0: as far as it likes."""
    max_kl: float = 0.0
    """End an update before the first minibatch that finds the policy moved further than this (nats); 0: never. Others
    stop at 1.5 times what they call target KL."""
    normalize_advantage: bool = True
    """Advantages of a minibatch have mean 0 and standard deviation 1, the population's."""
    entropy_cost: float = 0.01
    """Weight of the entropy bonus."""
    value_cost: float = 0.5
    """Weight of the mean squared error of the value, without ½."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max", "epochs", "minibatches")
        within(self, 0, 1, "discount", "gae_lambda")
        within(self, 0, math.inf, "clip_range", "value_clip_range", "max_kl", "entropy_cost", "value_cost")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max, epochs=self.epochs, minibatches=self.minibatches)

    def act(self, network: ActorCritic, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        return sample_action(network, observation, state, context, log_prob=True)

    def prepare(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Batch:
        values = target(batch.observation, batch.state, batch.valid).value  # [T+1, N]
        discount = self.discount * (~batch.terminated).float()
        advantage = multistep_errors(batch.reward, discount, values, batch.valid, trace=self.gae_lambda)
        return batch.with_targets(advantage=advantage, value=values[:-1])

    def loss(self, network: ActorCritic, target: ActorCritic, batch: Batch) -> Loss:
        policy, value, _ = network(batch.observation, batch.state, batch.valid)
        valid, advantage, before = batch.valid, batch.extras["advantage"], batch.extras["value"]
        target_value = before + advantage
        if self.normalize_advantage:
            mean = masked_mean(advantage, valid)
            deviation = masked_mean((advantage - mean).square(), valid).sqrt()
            advantage = (advantage - mean) / (deviation + 1e-8)

        log_ratio = policy.log_prob(batch.action) - batch.extras["log_prob"]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        policy_loss = masked_mean(-torch.min(ratio * advantage, clipped * advantage), valid)
        error = (target_value - value).square()
        if self.value_clip_range:
            near = before + (value - before).clamp(-self.value_clip_range, self.value_clip_range)
            error = torch.max(error, (target_value - near).square())
        value_loss, entropy = masked_mean(error, valid), masked_mean(policy.entropy(), valid)
        total = policy_loss + self.value_cost * value_loss - self.entropy_cost * entropy

        with torch.no_grad():
            kl = masked_mean(ratio - 1 - log_ratio, valid)  # an estimate that is never negative
            cut = masked_mean((ratio != clipped).float(), valid)
        loss = Loss.of(total, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy, kl=kl, clipped=cut)
        return loss._replace(early_stop=bool(self.max_kl) and float(kl) > self.max_kl)
