"""Soft actor-critic with a learned temperature (Haarnoja et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.maximum_entropy import MaximumEntropy
from asyncrl.common.sharding import mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Sample
from asyncrl.networks import NetworkConfig, SoftActorCritic, frozen

__all__ = ["SAC"]


@dataclass(frozen=True)
class SAC(MaximumEntropy):
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

    target_entropy: float | None = None
    """Target entropy H̄ in nats. Default: minus the number of action dimensions."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, -1e6, 1e6, "target_entropy")

    def loss(self, network: SoftActorCritic, target: SoftActorCritic, batch: Sample) -> Loss:
        temperature = self.temperature_of(network)
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
        entropy = -mean(log_prob.detach())
        wanted = -action.shape[-1] if self.target_entropy is None else self.target_entropy
        total = critic_loss + policy_loss + self.temperature_loss(network, entropy, wanted)
        metrics = dict(policy_loss=policy_loss, critic_loss=critic_loss, entropy=entropy, q=mean(q), target=mean(y))
        loss = Loss.of(total, temperature=temperature, **metrics)
        return loss._replace(td_errors=errors.detach().abs().mean(0))
