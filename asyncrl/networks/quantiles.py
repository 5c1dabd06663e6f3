"""The network of implicit quantile networks (Dabney et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.build import NetworkConfig
from asyncrl.networks.heads import ActionValues, QNetwork
from asyncrl.networks.initialization import initialize
from asyncrl.networks.layers import Linear, constants

__all__ = ["ImplicitQuantileNetwork"]


class ImplicitQuantileNetwork(QNetwork):
    """A Q-network whose outputs are the returns' quantiles at given fractions τ (Dabney et al. 2018, equation 4).

        Z_τ(s, ·) = f(ψ(s) ⊙ φ(τ)),  φ_j(τ) = ReLU(Σ_i cos(π·i·τ)·w_ij + b_j),  i = 1 … `cosines`

    ψ is the body, f a dense layer with ReLU below the heads. In `forward`, the fractions are the midpoints of `outputs`
    equal intervals, so Q(s, a) is a function of the weights alone.
    """

    midpoints: Tensor
    frequencies: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        spaces: Spaces,
        dtype: torch.dtype,
        generator: torch.Generator,
        outputs: int,
        cosines: int,
    ) -> None:
        super().__init__(config, spaces, dtype, generator)
        self.embedding = Linear(cosines, self.body.features)
        self.dense = config.dense()(self.body.features, self.body.features)
        for layer in (self.embedding, self.dense):
            initialize(layer, config.init, generator, {})
        midpoints = constants(lambda: (torch.arange(outputs, dtype=torch.float32) + 0.5) / outputs, outputs)
        self.register_buffer("midpoints", midpoints, persistent=False)
        frequencies = constants(lambda: math.pi * torch.arange(1, cosines + 1, dtype=torch.float32), cosines)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> ActionValues:
        return self.quantiles(observation, state, valid, self.midpoints.expand(*observation.shape[:2], -1))

    def quantiles(self, observation: Tensor, state: Tensor, valid: Tensor | None, fractions: Tensor) -> ActionValues:
        """Return the quantiles at `fractions` [T, N, K] as outputs [T, N, A, K], and their mean as Q."""
        features, state = self.body(observation, state, valid)
        embedded = torch.relu_(self.embedding(torch.cos(fractions[..., None] * self.frequencies)))  # [T, N, K, F]
        hidden = torch.relu_(self.dense(features[..., None, :] * embedded))
        value = None if self.value is None else self.value(hidden).transpose(-1, -2)
        return self.combined(observation, self.q(hidden).transpose(-1, -2), value, state)
