"""A copy of an algorithm's network that only acts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm
from asyncrl.algorithms.exploration import explore
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.global_generators import lent
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import (
    ActionValues,
    ConvolutionalEncoder,
    NetworkConfig,
    PolicyValue,
    copy_into,
    keep_in_compute_dtype,
    resample,
)

__all__ = ["Policy"]


class Policy:
    """Actors and evaluations act with it. Its network's body is kept in the dtype it computes in.

    It may live on a GPU: observations go there and what the network says comes back, so that random
    numbers are drawn on the CPU whatever the device.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        network: NetworkConfig,
        spaces: Spaces,
        dtype: torch.dtype,
        device: str = "cpu",
    ) -> None:
        self._algorithm, self._spaces, self._device = algorithm, spaces, device
        with lent():  # layers draw weights from torch's generator, which are overwritten
            self._network: Any = algorithm.build(network, spaces, dtype, generator(0, Stream.NETWORK)).to(device)
        self._network.requires_grad_(False)
        keep_in_compute_dtype(self._network)
        self._ask: Any = self._network if device == "cpu" else self._ask_device
        self._noisy = network.noisy

    def load(self, weights: Tensor) -> None:
        """Take the weights [P] float32."""
        copy_into(self._network, weights)

    def initial_state(self, count: int) -> Tensor:
        """[B, S] float32: what the network remembers when an episode begins, which is nothing."""
        return torch.zeros(count, self._network.state_size, dtype=torch.float32)

    @torch.no_grad()
    def act(self, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        """Actions for observations [B, *O]. A noisy network has new noise every time, and none in evaluations."""
        if self._noisy:
            resample(self._network, None if context.slots is None else context.random)
        output = self._algorithm.act(self._ask, observation, state, context)
        if not context.epsilon:
            return output
        count = self._spaces.actions.count
        if count is None:
            raise UsageError("--epsilon is for environments with one discrete choice per action")
        return output._replace(action=explore(output.action, count, context.epsilon, context.random)[0])

    @torch.no_grad()
    def first_convolution(self, observation: Tensor) -> tuple[Tensor, Tensor] | None:
        """Its kernels [F, C, k, k] and what they answer to one observation [1, *O], [F, h, w], both float32.

        None where the network has no convolutions.
        """
        encoder = self._network.body.encoder
        return encoder.first(observation.to(self._device)) if isinstance(encoder, ConvolutionalEncoder) else None

    def _ask_device(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue | ActionValues:
        output: PolicyValue | ActionValues = self._network(observation.to(self._device), state.to(self._device), valid)
        return output.cpu()
