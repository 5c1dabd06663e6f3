"""Base of soft actor-critic methods: a policy that maximizes rewards and its own entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms.replay_actor_critic import ReplayActorCritic
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.networks import NetworkConfig

__all__ = ["MaximumEntropy"]


@dataclass(frozen=True)
class MaximumEntropy(ReplayActorCritic):
    """Weighs the policy's entropy with a temperature α, which is learned (Haarnoja et al. 2018, section 5).

    The network has a parameter `log_temperature`; subclasses add `temperature_loss` to their loss.
    """

    temperature: float = 1.0
    """Temperature α, the weight of the policy's entropy; its initial value if it is learned."""
    learn_temperature: bool = True
    """Adapt the temperature so that the policy's mean entropy is the target entropy."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "temperature", above=self.learn_temperature)

    def build(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> Any:
        built = super().build(config, spaces, dtype, generator)
        if self.learn_temperature:
            torch.nn.init.constant_(built.log_temperature, math.log(self.temperature))
        return built

    def explored(self, policy: Any, random: torch.Generator) -> Tensor:
        action: Tensor = policy.sample(random)[0]
        return action

    def temperature_of(self, network: Any) -> Tensor:
        """Return the temperature α, a scalar without gradient."""
        log_temperature: Tensor = network.log_temperature.detach()
        return log_temperature.exp() if self.learn_temperature else torch.full_like(log_temperature, self.temperature)

    def temperature_loss(self, network: Any, entropy: Tensor, target_entropy: Tensor | float) -> Tensor | float:
        """Return log α·(H − H̄) for the mean `entropy` H and its target H̄, scalars; 0 if the temperature is fixed."""
        return network.log_temperature * (entropy - target_entropy) if self.learn_temperature else 0.0
