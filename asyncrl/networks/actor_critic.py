"""A policy and a value, with or without a shared body."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncrl.networks.build import Network, NetworkConfig, encoder, resolve
from asyncrl.networks.layers import Linear, orthogonal_
from asyncrl.spaces import Spaces

__all__ = ["ActorCritic"]


class ActorCritic(nn.Module):
    """[N, *O] → logits [N, actions] and value [N], both float32.

    Images share one body (Mnih et al. 2016, section 4); dense networks have one each, which
    keeps the value's errors out of the policy's features.
    """

    def __init__(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        assert spaces.actions is not None
        self.body = encoder(config, spaces, dtype)
        self.value_body = encoder(config, spaces, dtype) if resolve(config, spaces) is Network.MLP else None
        self.policy = Linear(self.body.features, spaces.actions)
        self.value = Linear(self.body.features, 1)
        orthogonal_(self, generator)
        orthogonal_(self.policy, generator, gain=0.01)
        orthogonal_(self.value, generator, gain=1.0)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(observation)
        critic = features if self.value_body is None else self.value_body(observation)
        return self.policy(features.float()), self.value(critic.float()).squeeze(-1)
