"""A trained policy as a function of tensors: from observations as the environment returns them to its actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asyncrl.algorithms import build_network
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import Contract
from asyncrl.envs.actions import LOWEST, Actions
from asyncrl.envs.spaces import Entry, Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import ActionValues, StepObservation, allowed, copy_into, for_single_steps, remove_noise
from asyncrl.networks.distributions import Categorical, DiagonalGaussian, SquashedGaussian
from asyncrl.runs.checkpoints.checkpoint import Checkpoint

__all__ = ["ExportedPolicy", "PolicyInput", "inputs_of", "network_of", "outputs_of", "policy_inputs"]


@dataclass(frozen=True)
class PolicyInput:
    """An input of an exported policy, [B, *shape]."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name."""
    part: Entry
    """The part of the observation that it holds."""


def policy_inputs(spaces: Spaces, frame_stack: int) -> list[PolicyInput]:
    """Return the inputs for observations of `spaces`, one for each part; an action mask is the last."""
    inputs, is_single = [], len(spaces.parts) - spaces.is_masked == 1
    for part in spaces.parts:
        name = "observation" if is_single else f"observation.{part.name}"
        shape = part.given_shape
        if spaces.entries and frame_stack > 1:
            shape = (frame_stack, *shape)
        elif frame_stack > 1 and not part.channels_last:
            shape = part.shape
        inputs.append(PolicyInput(name, shape, part.dtype, part))
    if spaces.is_masked:
        last = spaces.entries[-1]
        inputs[-1] = PolicyInput("action_mask", last.shape, last.dtype, last)
    return inputs


def inputs_of(spaces: Spaces, inputs: Sequence[PolicyInput], observation: np.ndarray) -> dict[str, np.ndarray]:
    """Return observations [B, *O] in the form of rollouts, before standardization, as the arrays of `inputs`."""
    arrays = {}
    for one, value in zip(inputs, spaces.split(observation), strict=True):
        if one.name == "action_mask" and value.ndim > 2:
            value = value[:, -1]  # the newest of a stack
        arrays[one.name] = np.ascontiguousarray(_as_given(one, value))
    return arrays


def _as_given(one: PolicyInput, value: np.ndarray) -> np.ndarray:
    """Return the values of a part as the environment gives them: the inverse of `Entry.converted`."""
    part = one.part
    if part.choices:
        return value + part.first
    if part.channels_last:
        return np.moveaxis(value, -3, -1)
    if len(part.given) == 4 and part.given == one.shape[-4:]:
        return np.moveaxis(value, (-4, -3), (-1, -2))
    return value.reshape(len(value), *one.shape)


class ExportedPolicy(nn.Module):
    """Takes the tensors of `policy_inputs` and, if the network is recurrent, its state [B, S]; returns `names` of tensors.

    Everything that the agent does to an observation is inside: the order of channels, standardization, normalization and
    the scale of pixels; and so is the conversion of the action for the environment.
    """

    observation_mean: Tensor | None
    observation_spread: Tensor | None

    def __init__(self, checkpoint: Checkpoint, contract: Contract, weights: Tensor) -> None:
        """Raises UsageError for a network that needs the bytes of an observation with several parts."""
        super().__init__()
        self._spaces, self.inputs = contract.spaces, policy_inputs(contract.spaces, contract.frame_stack)
        self._stack = contract.frame_stack
        self.network = network_of(checkpoint, weights)
        self.state_size: int = self.network.state_size
        if hasattr(self.network, "critics"):
            del self.network.critics  # they do not act
        remove_noise(self.network)
        self._is_stepwise = for_single_steps(self.network, self._spaces)
        if self._spaces.entries and not self._is_stepwise:
            algorithm, network = checkpoint.config.algorithm.name, checkpoint.config.network.network
            raise UsageError(
                f"the network {network} of {algorithm} reads observations with several parts as bytes, for which ONNX has "
                "no operation; train with an encoder instead"
            )
        shape = self._spaces.observation_shape
        for name in ("observation_mean", "observation_spread"):
            numbers = getattr(contract, name)
            tensor = torch.tensor(numbers, dtype=torch.float32).reshape(shape) if numbers else None
            self.register_buffer(name, tensor, persistent=False)
        self._action = _ActionConversion(self._spaces.actions)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(*inputs).values())

    def named(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        state = inputs[-1] if self.state_size else inputs[0].new_zeros((inputs[0].shape[0], 0), dtype=torch.float32)
        values = [self._converted(one, x) for one, x in zip(self.inputs, inputs, strict=False)]
        legal = allowed(values.pop(), self._spaces.actions.choices) if self._spaces.is_masked else None
        if self.observation_mean is not None and self.observation_spread is not None:
            values = [(values[0] - self.observation_mean) / self.observation_spread]
        if not self._spaces.features.entries:
            values = [values[0].reshape(values[0].shape[0], *self._spaces.features.observation_shape)]
        observation: Any = StepObservation(values, legal) if self._is_stepwise else values[0][None]
        outputs = outputs_of(self.network(observation, state, None))
        outputs["action"] = self._action(outputs["action"])
        if not self.state_size:
            del outputs["next_state"]
        return outputs

    def _converted(self, one: PolicyInput, x: Tensor) -> Tensor:
        """Return an input in the form that encoders take, as `Entry.converted` does."""
        part = one.part
        if part.choices:
            return x - part.first
        if part.channels_last:
            return x.movedim(-1, -3)
        if not part.given or (self._stack > 1 and not self._spaces.entries):
            return x
        return x.unsqueeze(-3) if len(part.given) == 2 else x.movedim((-1, -2), (-4, -3))


class _ActionConversion(nn.Module):
    """A policy's actions [B, …] as the environment's [B, *shape]; see `Actions.for_environment`."""

    first: Tensor
    center: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self._shape, self._dtype = actions.shape, getattr(torch, actions.dtype)
        self._is_continuous = actions.is_continuous
        if not actions.is_continuous:
            first = actions.first[0] if actions.count is not None else actions.first
            self.register_buffer("first", torch.tensor(first, dtype=torch.int64), persistent=False)
            return
        bottom, top = actions.scale
        numbers = dict(
            center=(bottom + top) / 2,
            radius=(top - bottom) / 2,
            low=np.maximum(actions.low, LOWEST),
            high=np.array(actions.high),
        )
        computed = torch.float64 if actions.dtype == "float64" else torch.float32
        for name, values in numbers.items():
            self.register_buffer(name, torch.from_numpy(values).to(computed), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        if self._is_continuous:
            scaled = self.center + self.radius * action.to(self.center.dtype)
            action = torch.minimum(torch.maximum(scaled, self.low), self.high)
        else:
            action = action + self.first
        return action.to(self._dtype).reshape(action.shape[0], *self._shape)


def network_of(checkpoint: Checkpoint, weights: Tensor) -> Any:
    """Return the checkpoint's network with its `weights` [P], which computes in float32 and without noise."""
    config, spaces = checkpoint.config, checkpoint.contract.spaces
    network = build_network(config.algorithm, config.network, spaces, torch.float32, generator(0, Stream.NETWORK))
    copy_into(network, weights)
    return network.requires_grad_(False).eval()


def outputs_of(output: Any) -> dict[str, Tensor]:
    """Return what an agent acts by, from the output of its network for one step of B environments.

    `action` is the policy's, [B, …], the most probable one; beside it `action_probabilities` [B, Σ choices], `q` [B, A], or
    for real numbers `mean` and `scale` [B, parts], and `next_state` [B, S].
    """
    if isinstance(output, ActionValues):
        return {"action": output.q[0].argmax(-1), "q": output.q[0], "next_state": output.state}
    policy, named = output.policy, dict[str, Tensor]()
    match policy:
        case Categorical():
            parts = torch.split(policy.logits[0], list(policy.choices), -1)
            named["action_probabilities"] = torch.cat([part.softmax(-1) for part in parts], -1)
        case DiagonalGaussian():
            named |= {"mean": policy.mean[0], "scale": policy.variance[0].sqrt()}
        case SquashedGaussian():
            named |= {"mean": policy.mean[0], "scale": policy.log_deviation[0].exp()}
    return {"action": policy.mode()[0], **named, "next_state": output.state}
