"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from asyncrl.algorithms.base import Loss
from asyncrl.algorithms.replay_actor_critic import ReplayActorCritic
from asyncrl.common.search_space import Choices
from asyncrl.common.sharding import draw_rows, mean
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Sample
from asyncrl.networks import DeterministicActorCritic, NetworkConfig, frozen

__all__ = ["TD3"]


@dataclass(frozen=True)
class TD3(ReplayActorCritic):
    """Twin delayed DDPG (Fujimoto et al. 2018, algorithm 1).

        y = r + γ·min_i Q⁻_i(s′, clip(μ⁻(s′) + ε, −1, 1)),  ε ~ clip(N(0, σ̃), −c, c)
        L(Q) = mean w·Σ_i (Q_i(s, a) − y)²
        L(μ) = mean −Q_1(s, μ(s)), in every d-th gradient step, after which the target network moves

    DDPG (Lillicrap et al. 2016) is `--critics 1 --policy-delay 1 --target-noise 0`.
    """

    name: ClassVar[str] = "td3"
    summary: ClassVar[str] = "twin delayed DDPG: continuous actions from a replay buffer (Fujimoto et al. 2018)"
    network: ClassVar[Any] = DeterministicActorCritic
    is_stochastic: ClassVar[bool] = False
    is_capturable: ClassVar[bool] = True
    draws_in_loss: ClassVar[bool] = True
    delayed: ClassVar[tuple[str, ...]] = ("body.", "policy.")

    action_noise: Annotated[float, Choices(0.05, 0.1, 0.2)] = 0.1
    """Standard deviation of the Gaussian noise that explores; actions are within ±1."""
    policy_delay: int = 2
    """Gradient steps d of the critics for each one of the policy and the target network."""
    target_noise: Annotated[float, Choices(0.1, 0.2, 0.4)] = 0.2
    """Standard deviation σ̃ of the noise in the target policy's actions."""
    target_noise_clip: float = 0.5
    """Noise in the target policy's actions is clipped to ±c."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "action_noise", "target_noise", "target_noise_clip")
        within(self, 1, math.inf, "policy_delay")

    def explored(self, policy: Any, random: torch.Generator) -> Tensor:
        action: Tensor = policy.mode()[0]
        noise = torch.randn(action.shape, generator=random, dtype=torch.float32)
        return (action + self.action_noise * noise).clamp(-1, 1)

    def is_delayed(self, batch: Sample) -> bool:
        return batch.number % self.policy_delay != 0

    def loss(self, network: DeterministicActorCritic, target: DeterministicActorCritic, batch: Sample) -> Loss:
        with torch.no_grad():
            next_action = target.policies(batch.next_observation).mode()
            noise = draw_rows(torch.randn, next_action.shape, batch.random, 0, dtype=torch.float32).to(next_action.device)
            bound = self.target_noise_clip
            next_action = (next_action + (self.target_noise * noise).clamp(-bound, bound)).clamp(-1, 1)
            y = self.target(batch, target.action_values(batch.next_observation, next_action).amin(0))
        errors = network.action_values(batch.observation, batch.action) - y  # [C, N]
        critic_loss = mean(batch.weight * errors.square(), 1).sum()

        is_delayed = self.is_delayed(batch)
        with torch.set_grad_enabled(not is_delayed), frozen(network.critics):
            policy_loss = -mean(network.critics[0](batch.observation, network.policies(batch.observation).mode()))
        total = critic_loss if is_delayed else critic_loss + policy_loss
        loss = Loss.of(total, policy_loss=policy_loss, critic_loss=critic_loss, q=-policy_loss, target=mean(y))
        return loss._replace(td_errors=errors.detach().abs().mean(0))
