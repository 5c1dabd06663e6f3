"""A trained policy outside of training: it acts on what an environment gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asyncrl import checkpoint, datasets
from asyncrl.algorithms import Moment, Policy
from asyncrl.arithmetic import standard_modes
from asyncrl.envs import Contract, EnvOptions, describe
from asyncrl.errors import UsageError
from asyncrl.randomness import Stream, generator
from asyncrl.run import checkpoint_folder
from asyncrl.spaces import pack

__all__ = ["Agent", "load"]


@dataclass
class Agent:
    """A trained policy, ready to act. Made by `load`."""

    checkpoint: checkpoint.Checkpoint
    policy: Policy
    random: torch.Generator
    _state: torch.Tensor | None = None

    @property
    def contract(self) -> Contract:
        """The environment that it was trained in."""
        return self.checkpoint.contract

    def contract_of(self, env: str | None = None, rules: EnvOptions | None = None, *, force: bool = False) -> Contract:
        """Its contract, of the environment `env` (default: the first that it was trained in) under other `rules`.

        Raises UsageError for what differs, unless `force`; and for spaces that are not those it was trained with.
        """
        known = {contract.env: contract for contract in self.contract.mix}
        own = self.contract.named(env if env in known or not force else None)
        rules = (rules or EnvOptions()).over(self.checkpoint.config.environment)
        if env in (None, own.env) and rules == self.checkpoint.config.environment:
            return own
        asked = dataclasses.replace(
            describe(env or own.env, dataclasses.replace(rules, standardize=0)),
            observation_mean=own.observation_mean,  # as it learned them
            observation_spread=own.observation_spread,
        )
        if asked.spaces != own.spaces:
            raise UsageError(f"{asked.env} as asked for has other spaces: {asked.spaces}, not {own.spaces}")
        differences = asked.differences(own)
        if differences and not force:
            raise UsageError(f"that is another contract ({'; '.join(differences)}): --force plays under it all the same")
        return asked

    def reset(self) -> None:
        """Forget what was seen: episodes begin. It makes a difference with a recurrent network only."""
        self._state = None

    @standard_modes()
    def act(self, observation: np.ndarray, *, greedy: bool | None = None) -> np.ndarray:
        """Actions for observations [B, *O], as the environment takes them; one action for one observation [*O].

        One observation may also be what an environment with Dict, Tuple or Discrete observations gives.
        `greedy` takes the most probable action, else one is drawn; None: as the run was evaluated. A recurrent
        network remembers what it saw since `reset`, B environments at a time.
        """
        spaces = self.contract.spaces
        if spaces.entries and not isinstance(observation, np.ndarray):
            return np.asarray(self.act(pack(spaces, _batch_of_one(observation)), greedy=greedy)[0])
        single = observation.shape == spaces.observation_shape
        if not single and observation.shape[1:] != spaces.observation_shape:
            raise UsageError(f"expected observations [B, *{spaces.observation_shape}], got {observation.shape}")
        seen = np.asarray(observation[None] if single else observation, spaces.observation_dtype)
        batch = torch.from_numpy(self.contract.standardized(seen))
        if self._state is None or len(self._state) != len(batch):
            self._state = self.policy.initial_state(len(batch))
        acted = self.policy.act(batch, self._state, Moment(0, self.random, None, self.greedily(greedy)))
        self._state = acted.state
        action = spaces.actions.for_environment(acted.action.numpy())
        return action[0] if single else action

    def player(self, *, greedy: bool | None = None, epsilon: float = 0.0) -> datasets.Player:
        """What plays episodes with this agent's policy."""
        state, moment = self.policy.initial_state(1), Moment(0, self.random, None, self.greedily(greedy), epsilon)

        def play_on(observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
            nonlocal state
            if begins:
                state = self.policy.initial_state(1)
            acted = self.policy.act(torch.from_numpy(self.contract.standardized(observation)), state, moment)
            state = acted.state
            return np.asarray(acted.action)

        return play_on

    def greedily(self, greedy: bool | None) -> bool:
        """Does it take the most probable action? None: as the run was evaluated."""
        return self.checkpoint.config.eval_greedy if greedy is None else greedy


def _batch_of_one(observation: Any) -> Any:
    """The same with an axis more in every part."""
    if isinstance(observation, Mapping):
        return {key: _batch_of_one(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_batch_of_one(part) for part in observation)
    return np.asarray(observation)[None]


@standard_modes()
def load(name: Path | str) -> Agent:
    """The agent of a run folder (its best checkpoint, else its latest), a checkpoint folder or a pretrained name.

    Raises CheckpointError that names the file where one is damaged.
    """
    found = checkpoint.load(checkpoint_folder(name))
    config, spaces = found.config, found.contract.spaces
    policy = Policy(config.algorithm, config.network, spaces, config.precision.dtype)
    policy.load(found.weights())
    return Agent(found, policy, generator(config.seed, Stream.EVALUATION))
