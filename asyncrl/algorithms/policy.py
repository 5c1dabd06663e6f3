"""A copy of an algorithm's network that only acts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm
from asyncrl.algorithms.building import build_network
from asyncrl.algorithms.exploration import explore
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import (
    ActionPolicy,
    ActionValues,
    ConvolutionalEncoder,
    MaskReader,
    NetworkConfig,
    NormalizedEncoder,
    PolicyValue,
    ResidualEncoder,
    copy_into,
    keep_in_compute_dtype,
    resample,
)

__all__ = ["Policy"]


class Policy:
    """The network that actors and evaluations act with. Its encoder's weights are kept in the compute dtype.

    On a GPU, observations are copied there and outputs copied back: random numbers are always drawn on the CPU,
    so that actions are sampled alike on every device.
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
        self._network: Any = build_network(algorithm, network, spaces, dtype, generator(0, Stream.NETWORK)).to(device)
        self._network.requires_grad_(False)
        keep_in_compute_dtype(self._network)
        self._forward: Any = self._network if device == "cpu" else self._forward_on_device
        self._noisy = network.noisy
        self._mask = MaskReader(spaces) if spaces.is_masked else None

    def load(self, weights: Tensor) -> None:
        """Copy the weights [P] float32 into the network."""
        copy_into(self._network, weights)

    def initial_state(self, count: int) -> Tensor:
        """Return the recurrent state of `count` new episodes, zeros [B, S] float32."""
        return torch.zeros(count, self._network.state_size, dtype=torch.float32)

    @torch.no_grad()
    def act(self, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        """Choose actions for `observation` [B, *O] and recurrent `state` [B, S].

        A noisy network draws new noise for every call in training and has none in evaluation. Raises UsageError if
        `context.epsilon` is positive and actions are not single discrete choices.
        """
        if self._noisy:
            resample(self._network, context.random if context.explore else None)
        if self._mask is not None:
            context = context._replace(legal=self._mask.legal(observation))
        output = self._algorithm.act(self._forward, observation, state, context)
        if not context.epsilon:
            return output
        count = self._spaces.actions.count
        if count is None:
            raise UsageError(
                f"--epsilon {context.epsilon:g} needs one discrete action per step, but the environment's actions are "
                f"{self._spaces.actions}; leave it out"
            )
        return output._replace(action=explore(output.action, count, context.epsilon, context.random, context.legal)[0])

    @torch.no_grad()
    def first_convolution(self, observation: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the first convolution's kernels [F, C, k, k] and feature maps [F, h, w] of one `observation` [1, *O].

        Both are float32. Returns None for networks without convolutions, and for the user's own.
        """
        encoder: Any = getattr(getattr(self._network, "body", None), "encoder", None)
        x = (observation if self._mask is None else self._mask.features(observation)).to(self._device)
        if isinstance(encoder, NormalizedEncoder):
            x, encoder = encoder.normalizer(x), encoder.encoder
        return encoder.first(x) if isinstance(encoder, ConvolutionalEncoder | ResidualEncoder) else None

    def _forward_on_device(
        self, observation: Tensor, state: Tensor, valid: Tensor | None = None
    ) -> PolicyValue | ActionValues | ActionPolicy:
        output: PolicyValue | ActionValues | ActionPolicy = self._network(
            observation.to(self._device), state.to(self._device), valid
        )
        return output.cpu()
