"""Checks that an algorithm of the user chooses actions that its environment takes."""

from __future__ import annotations

import reprlib
from typing import Any

import torch

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm
from asyncrl.algorithms.custom import translate_errors
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.policy import Policy
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig

__all__ = ["check_acting"]

_ENVS = 2


def check_acting(algorithm: Algorithm, network: NetworkConfig, spaces: Spaces) -> None:
    """Raise UsageError if an algorithm raises, or chooses no valid actions, for observations of zeros."""
    name, actions = algorithm.name, spaces.actions
    policy = Policy(algorithm, network, spaces, torch.float32)
    observation = torch.zeros(_ENVS, *spaces.observation_shape, dtype=getattr(torch, spaces.observation_dtype))
    slots = EnvSlots.of(0, actor=0, envs=_ENVS)
    with translate_errors(type(algorithm), name):
        context = ActContext.training(generator(0, Stream.ACTOR), step=0, slots=slots)
        output: Any = policy.act(observation, policy.initial_state(_ENVS), context)
    if not isinstance(output, ActionOutput):
        raise UsageError(f"algorithm {name}: the method 'act' returned {reprlib.repr(output)}; expected an ActionOutput")
    action = output.action
    shape = [_ENVS] if len(actions.choices) == 1 else [_ENVS, actions.parts]
    dtype = torch.float32 if actions.is_continuous else torch.int64
    if [*action.shape] != shape or action.dtype is not dtype:
        raise UsageError(
            f"algorithm {name}: the method 'act' returned actions {[*action.shape]} {action.dtype} for {_ENVS} "
            f"environments; expected {shape} {dtype}"
        )
    choices = torch.tensor(actions.choices)
    if not actions.is_continuous and not ((action >= 0) & (action < choices)).all():
        raise UsageError(
            f"algorithm {name}: the method 'act' chose the actions {action.tolist()}, but the choices are 0 to "
            f"{(choices - 1).tolist()}"
        )
    for extra, value in output.extras.items():
        if not isinstance(value, torch.Tensor) or len(value) != _ENVS:
            raise UsageError(
                f"algorithm {name}: the method 'act' returned {reprlib.repr(value)} as the extra {extra!r}; expected "
                "a tensor with a row for each environment"
            )
