"""Builds the network of an algorithm."""

from __future__ import annotations

from dataclasses import replace

import torch

from asyncrl.algorithms.base import Algorithm
from asyncrl.envs.global_generators import preserved_generators
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig, complete_network, is_complete, is_custom

__all__ = ["build_network", "network_outline"]


def build_network(
    algorithm: Algorithm, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator
) -> torch.nn.Module:
    """Return a new network for `spaces`, initialized from `generator`: the algorithm's, or the user's complete network.

    Its body computes in `dtype`. Raises UsageError if the user's network does not fit the spaces or the algorithm.
    """
    with preserved_generators():  # layers draw initial weights from torch's global generator; they are overwritten
        if not is_complete(config.network, spaces):
            return algorithm.build(config, spaces, dtype, generator)
        if not algorithm.takes_complete_network:
            raise UsageError(
                f"--network {config.network} has its own heads, which {algorithm.name} cannot use; bring an encoder instead"
            )
        if spaces.is_masked:
            raise UsageError(
                f"--network {config.network} has its own heads, to which the environment's action mask is not applied; "
                "bring an encoder instead, or add --no-action-mask"
            )
        plain = replace(config, network="auto")
        expected = algorithm.build(plain, spaces, torch.float32, torch.Generator().manual_seed(0))
        return complete_network(config.network, spaces, expected, generator)


def network_outline(algorithm: Algorithm, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype) -> torch.nn.Module:
    """Return a network to read names and shapes from: on the device "meta", without data, unless it is custom."""
    with torch.device("cpu" if is_custom(config.network) else "meta"):  # the user's code need not run on "meta"
        return build_network(algorithm, config, spaces, dtype, torch.Generator("cpu"))
