"""A copy of an algorithm's network that only acts."""

from __future__ import annotations

import torch
from torch import Tensor

from asyncrl.algorithms.base import Acted, Algorithm
from asyncrl.networks import NetworkConfig, copy_into, keep_in_compute_dtype
from asyncrl.randomness import Stream, generator
from asyncrl.spaces import Spaces

__all__ = ["Policy"]


class Policy:
    """Actors and evaluations act with it. Its network's body is kept in the dtype it computes in."""

    def __init__(self, algorithm: Algorithm, network: NetworkConfig, spaces: Spaces, dtype: torch.dtype) -> None:
        self._algorithm = algorithm
        self._network = algorithm.network(network, spaces, dtype, generator(0, Stream.NETWORK))
        self._network.requires_grad_(False)
        keep_in_compute_dtype(self._network)

    def load(self, weights: Tensor) -> None:
        """Take the weights [P] float32."""
        copy_into(self._network, weights)

    @torch.no_grad()
    def act(self, observation: Tensor, step: int, random: torch.Generator, *, greedy: bool = False) -> Acted:
        """Actions for observations [B, *O]."""
        return self._algorithm.act(self._network, observation, step, random, greedy=greedy)
