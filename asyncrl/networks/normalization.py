"""Running statistics inside networks: normalized observations, and values learned in standardized units.

Statistics are parameters that need no gradient: they belong to the weights, so they are published, saved and loaded with
them, but no optimizer changes them. `algorithms/normalization.py` computes them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks.layers import Linear

__all__ = [
    "MAX_NORMALIZED",
    "NormalizedEncoder",
    "Normalizer",
    "PopArt",
    "RunningStatistics",
    "normalized_spaces",
    "standardized",
    "value_std",
]

MAX_NORMALIZED = 10.0
"""Normalized observations are clipped to ± this number."""


class RunningStatistics(nn.Module):
    """Mean and spread of numbers, [*shape] float32, and how many they were computed from; initially 0, 1 and 0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.zeros((), dtype=torch.float32), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(shape, dtype=torch.float32), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(shape, dtype=torch.float32), requires_grad=False)

    @torch.no_grad()
    def assign(self, count: float, mean: Tensor, spread: Tensor) -> None:
        """Set the statistics; `mean` and `spread` are [*shape]."""
        self.count.fill_(count)
        self.mean.copy_(mean)
        self.spread.copy_(spread)


class Normalizer(nn.Module):
    """Normalizes observations [N, *O], or one part of them: (x − mean) / spread, clipped to ±10, in float32."""

    def __init__(self, spaces: Spaces, part: int) -> None:
        """`part` is an index into the environment's `Spaces.parts`."""
        super().__init__()
        self.part, self._shape = part, spaces.observation_shape
        self.statistics = RunningStatistics(self._shape)

    def forward(self, observation: Tensor) -> Tensor:
        x = observation.reshape(observation.shape[0], *self._shape).float() - self.statistics.mean
        return x.div_(self.statistics.spread).clamp_(-MAX_NORMALIZED, MAX_NORMALIZED).view(observation.shape)


class NormalizedEncoder(nn.Module):
    """An encoder of normalized observations."""

    def __init__(self, spaces: Spaces, encoder: Any, part: int) -> None:
        """`encoder` takes observations of `normalized_spaces(spaces)`; `part` is as in `Normalizer`."""
        super().__init__()
        self.normalizer, self.encoder = Normalizer(spaces, part), encoder
        self.features: int = encoder.features

    def forward(self, observation: Tensor) -> Tensor:
        features: Tensor = self.encoder(self.normalizer(observation))
        return features


def normalized_spaces(spaces: Spaces) -> Spaces:
    """Return the spaces of normalized observations: floating-point numbers; images stay images."""
    return replace(spaces, observation_dtype="float32", image_max=1.0 if spaces.is_image else None)


class PopArt(Linear):
    """A value head that learns standardized values v̂ and returns σ·v̂ + μ (van Hasselt et al. 2016, "PopArt")."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 1)
        self.statistics = RunningStatistics(())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.statistics.spread + self.statistics.mean

    @torch.no_grad()
    def rescale(self, count: float, mean: Tensor, spread: Tensor) -> None:
        """Set new statistics μ′ = `mean` and σ′ = `spread`, scalars, and keep the outputs as they are.

        W ← σ/σ′·W,  b ← (σ·b + μ − μ′)/σ′ (van Hasselt et al. 2016, proposition 1).
        """
        old_mean, old_spread = self.statistics.mean.double(), self.statistics.spread.double()
        self.statistics.assign(count, mean, spread)
        mean, spread = self.statistics.mean.double(), self.statistics.spread.double()
        self.weight.copy_(self.weight.double() * (old_spread / spread))
        self.bias.copy_((old_spread * self.bias.double() + old_mean - mean) / spread)


def value_std(network: Any) -> Tensor | float:
    """Return σ of the network's value head, a scalar; 1 without `--normalize-value`."""
    head = getattr(network, "value", None)
    return head.statistics.spread if isinstance(head, PopArt) else 1.0


def standardized(difference: Tensor, network: Any) -> Tensor:
    """Return a difference of values in units of `value_std`; without `--normalize-value`, `difference` itself."""
    spread = value_std(network)
    return difference / spread if isinstance(spread, Tensor) else difference
