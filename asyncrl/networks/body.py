"""The part of a network below its heads: encoder and recurrent core."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.build import NetworkConfig, encoder
from asyncrl.networks.masks import MaskReader
from asyncrl.networks.recurrent import Core
from asyncrl.networks.recurrent import core as new_core

__all__ = ["Body"]


class Body(nn.Module):
    """(observation [T, N, *O], state [N, S], valid [T, N]) → (features [T, N, F] float32, state [N, S]).

    An action mask in the observation does not go into the features; `legal` reads it.
    """

    def __init__(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self._mask = MaskReader(spaces) if spaces.is_masked else None
        self.encoder = encoder(config, spaces.features, dtype, generator)
        self.core = new_core(config.recurrent, self.encoder.features, config.recurrent_size)
        self.features, self.state_size = self.core.features, self.core.state_size

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self._mask is not None:
            observation = self._mask.features(observation)
        features = self.encoder(observation.flatten(0, 1)).reshape(*observation.shape[:2], self.encoder.features)
        core = self.core
        if type(core) is not Core:  # calling the identity takes as long as a small layer's arithmetic
            features, state = core(features, state, valid)
        return features.float(), state

    def legal(self, observation: Tensor) -> Tensor | None:
        """Return which choices are allowed, [T, N, Σ choices] bool; None without an action mask."""
        return None if self._mask is None else self._mask.legal(observation)
