"""Single episodes, played step by step by a policy, a bot or a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.torch_setup import one_torch_thread
from asyncrl.envs import Contract, Environments, Step

__all__ = ["PlayableEnv", "Player", "PolicyPlayer", "SingleEnv", "Transition", "play_episode"]

Player = Callable[[np.ndarray, dict[str, Any], bool], np.ndarray]
"""Maps (observation [1, *O], info, whether an episode begins) to the action [1, …], encoded as a policy's (`Actions`)."""


class PlayableEnv(Protocol):
    """One environment, such as `SingleEnv` or `View`."""

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; return its first observation, [1, *O]."""

    def step(self, action: np.ndarray) -> Step:
        """Apply an action [1, …]."""

    @property
    def infos(self) -> dict[str, Any]:
        """Infos of the last reset or step: an array [1, …] per name."""


class SingleEnv:
    """One environment under `contract`, without rendering."""

    def __init__(self, contract: Contract) -> None:
        self._environments = Environments(contract, 1, training=False)

    @property
    def infos(self) -> dict[str, Any]:
        return self._environments.infos

    def reset(self, seed: int) -> np.ndarray:
        return self._environments.reset([seed])

    def step(self, action: np.ndarray) -> Step:
        return self._environments.step(action)

    def close(self) -> None:
        self._environments.close()


class PolicyPlayer:
    """A `Player` that acts with a policy; a recurrent network's state is reset when an episode begins.

    One observation is too little work for several threads, which would wait for one another on busy cores.
    """

    def __init__(self, policy: Policy, context: ActContext) -> None:
        self._policy, self._context = policy, context
        self._state = policy.initial_state(1)

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        if begins:
            self._state = self._policy.initial_state(1)
        with one_torch_thread():
            output = self._policy.act(torch.from_numpy(observation), self._state, self._context)
        self._state = output.state
        return np.asarray(output.action)


class Transition(NamedTuple):
    """One step of an episode; the arrays are copies."""

    observation: np.ndarray
    """[1, *O] before the action."""
    action: np.ndarray
    """[1, …], encoded as a policy's (`Actions`)."""
    reward: float
    """Unclipped."""
    next_observation: np.ndarray
    """[1, *O] after the action."""
    terminated: bool
    done: bool
    """Whether the episode ended, by termination or truncation."""


def play_episode(player: Player, env: PlayableEnv, observation: np.ndarray) -> Iterator[Transition]:
    """Yield the steps of the episode that `env` has just begun with `observation` [1, *O], until it is done."""
    observation, begins, done = observation.copy(), True, False
    while not done:
        action = player(observation, env.infos, begins).copy()
        step = env.step(action)
        begins, done = False, bool(step.done[0])
        next_observation = step.observation.copy()  # some environments reuse one array
        yield Transition(observation, action, float(step.reward[0]), next_observation, bool(step.terminated[0]), done)
        observation = next_observation
