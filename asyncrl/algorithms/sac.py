"""Soft actor-critic with a learned temperature (Haarnoja et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_actor_critic import ReplayActorCritic
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Sample
from asyncrl.networks import NetworkConfig, SoftActorCritic, frozen

__all__ = ["SAC"]


@dataclass(frozen=True)
class SAC(ReplayActorCritic):
    """Soft actor-critic (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", algorithm 1).

        y = r + γ·(min_i Q⁻_i(s′, a′) − α·log π(a′|s′)),  a′ ~ π(·|s′)
        L(Q) = mean w·Σ_i ½·(Q_i(s, a) − y)²                      (equation 5)
        L(π) = mean [α·log π(ã|s) − min_i Q_i(s, ã)],  ã ~ π(·|s)   (equation 9)
        L(α) = mean [−log α·(log π(ã|s) + H̄)]                      (equation 18, with log α for α, as in the authors' code)

    One gradient step descends on all three at once. w is the importance weight of prioritized replay, else 1.
    """

    name: ClassVar[str] = "sac"
    summary: ClassVar[str] = (
        "soft actor-critic: continuous actions from a replay buffer, learned temperature (Haarnoja 2018)"
    )
    network: ClassVar[Any] = SoftActorCritic
    is_capturable: ClassVar[bool] = True
    draws_in_loss: ClassVar[bool] = True

    temperature: float = 1.0
    """Temperature α, the weight of the policy's entropy; its initial value if it is learned."""
    learn_temperature: bool = True
    """Adapt the temperature so that the policy's mean entropy is --target-entropy."""
    target_entropy: float | None = None
    """Target entropy H̄ in nats. Default: minus the number of action dimensions."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "temperature", above=self.learn_temperature)
        within(self, -1e6, 1e6, "target_entropy")

    def build(
        self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
    ) -> SoftActorCritic:
        built = SoftActorCritic(config, spaces, dtype, generator, self.critics)
        if self.learn_temperature:
            torch.nn.init.constant_(built.log_temperature, math.log(self.temperature))
        return built

    def explored(self, policy: Any, random: torch.Generator) -> Tensor:
        action: Tensor = policy.sample(random)[0]
        return action

    def loss(self, network: SoftActorCritic, target: SoftActorCritic, batch: Sample) -> Loss:
        temperature = network.log_temperature.detach().exp() if self.learn_temperature else self.temperature
        with torch.no_grad():
            next_action, next_log_prob = network.policies(batch.next_observation).sample_with_log_prob(batch.random)
            next_q = target.action_values(batch.next_observation, next_action).amin(0)
            y = self.target(batch, next_q - temperature * next_log_prob)
        errors = network.action_values(batch.observation, batch.action) - y  # [C, N]
        critic_loss = 0.5 * mean(batch.weight * errors.square(), 1).sum()

        action, log_prob = network.policies(batch.observation).sample_with_log_prob(batch.random)
        with frozen(network.critics):
            q = network.action_values(batch.observation, action).amin(0)
        policy_loss = mean(temperature * log_prob - q)
        total = critic_loss + policy_loss
        entropy = -mean(log_prob.detach())
        if self.learn_temperature:
            wanted = -action.shape[-1] if self.target_entropy is None else self.target_entropy
            total = total + network.log_temperature * (entropy - wanted)
        metrics = dict(policy_loss=policy_loss, critic_loss=critic_loss, entropy=entropy, q=mean(q), target=mean(y))
        metrics["temperature"] = torch.as_tensor(temperature, dtype=torch.float32)
        return Loss.of(total, **metrics)._replace(td_errors=errors.detach().abs().mean(0))
