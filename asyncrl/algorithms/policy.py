"""A copy of an algorithm's network that only acts."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm
from asyncrl.algorithms.building import build_network
from asyncrl.algorithms.exploration import explore
from asyncrl.common.capture import Captured
from asyncrl.common.cuda_graphs import cuda_graph
from asyncrl.common.randomness import Stream, generator
from asyncrl.common.torch_setup import configure_gpu
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import (
    ActionValues,
    ConvolutionalEncoder,
    DeterministicActorCritic,
    DiscreteSoftActorCritic,
    MaskReader,
    NetworkConfig,
    NormalizedEncoder,
    PolicyOutput,
    PolicyValue,
    ResidualEncoder,
    WeightLoader,
    is_custom,
    keep_in_compute_dtype,
    resample,
    use_dense_bodies,
    without_initialization,
)

__all__ = ["NetworkOutputs", "Policy"]

NetworkOutputs = PolicyValue | ActionValues | PolicyOutput


class Policy:
    """The network that actors and evaluations act with. Its encoder's weights are kept in the compute dtype.

    Its weights are not initialized: call `load` before acting.

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
        configure_gpu(device)
        with without_initialization():
            built = build_network(algorithm, network, spaces, dtype, generator(0, Stream.NETWORK))
        self._network: Any = built.to(device)
        self._network.requires_grad_(False)
        keep_in_compute_dtype(self._network)
        use_dense_bodies(self._network)
        self._load = WeightLoader(self._network)
        self._forward: Any = self._network if device == "cpu" else self._forward_on_device
        capture = None if is_custom(network.network) else partial(cuda_graph, device=device)
        self._on_device: Captured[Any, Any] = Captured(self._outputs_on_device, capture)
        self._noisy = network.noisy
        self._mask = MaskReader(spaces) if spaces.is_masked else None

    def load(self, weights: Tensor) -> None:
        """Copy the weights [P] float32 into the network."""
        self._load(weights)

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
                f"--epsilon {context.epsilon:g} needs one discrete action per step, but the environment has "
                f"{self._spaces.actions.in_words}; leave it out"
            )
        return output._replace(action=explore(output.action, count, context.epsilon, context.random, context.legal)[0])

    def act_with_outputs(
        self, observation: Tensor, state: Tensor, context: ActContext
    ) -> tuple[ActionOutput, NetworkOutputs | None]:
        """As `act`, with what the network computed; None if the algorithm calls parts of the network only."""
        seen: list[NetworkOutputs] = []
        hook = self._network.register_forward_hook(lambda network, inputs, outputs: seen.append(outputs))
        try:
            acted = self.act(observation, state, context)
        finally:
            hook.remove()
        return acted, seen[-1].cpu() if seen else None

    @torch.no_grad()
    def outputs(self, observation: Tensor, state: Tensor) -> NetworkOutputs:
        """Return what the network computes for one step of N environments: `observation` [N, *O], `state` [N, S]."""
        outputs: NetworkOutputs = self._forward(observation[None], state)
        return outputs

    @torch.no_grad()
    def action_value(self, observation: Tensor, action: Tensor) -> Tensor | None:
        """Return the smallest critic's Q(s, a) [N] for `observation` [N, *O] and `action` [N, …].

        None for algorithms that have no critics of actions.
        """
        if not isinstance(self._network, DeterministicActorCritic | DiscreteSoftActorCritic):
            return None
        values = self._network.action_values(observation.to(self._device), action.to(self._device))
        return values.amin(0).cpu()

    @torch.no_grad()
    def first_convolution(self, observation: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the first convolution's kernels [F, C, k, k] and feature maps [F, h, w] of one `observation` [1, *O].

        Both are float32. Returns None for networks without convolutions, and for custom ones.
        """
        encoder: Any = getattr(getattr(self._network, "body", None), "encoder", None)
        x = (observation if self._mask is None else self._mask.features(observation)).to(self._device)
        if isinstance(encoder, NormalizedEncoder):
            x, encoder = encoder.normalizer(x), encoder.encoder
        return encoder.first(x) if isinstance(encoder, ConvolutionalEncoder | ResidualEncoder) else None

    def _forward_on_device(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> NetworkOutputs:
        output: NetworkOutputs = self._on_device((observation, state, valid))
        return output.cpu()

    def _outputs_on_device(self, inputs: tuple[Tensor | None, ...]) -> NetworkOutputs:
        outputs: NetworkOutputs = self._network(*(x if x is None else x.to(self._device) for x in inputs))
        return outputs
