"""A trained policy outside of training: it acts on what an environment gives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asyncrl.acting import datasets
from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.randomness import Stream, generator
from asyncrl.common.torch_setup import standard_modes
from asyncrl.envs import Contract, EnvOptions, describe
from asyncrl.envs.spaces import Spaces, pack
from asyncrl.errors import UsageError
from asyncrl.runs import checkpoint
from asyncrl.runs.run import checkpoint_folder

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
        known = {contract.env: contract for contract in self.contract.contracts}
        own = self.contract.named(env if env in known or not force else None)
        rules = (rules or EnvOptions()).merged_into(self.checkpoint.config.environment)
        if env in (None, own.env) and rules == self.checkpoint.config.environment:
            return own
        self.checkpoint.check_trust()
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
    def act(self, observation: Any, *, greedy: bool | None = None) -> Any:
        """The action for what the environment gives, as the environment takes it; or one for each of a batch.

        An observation is what the environment or a vector environment of it returns, of any space, or what
        `envs.make` gives: an array [B, *O], or [*O], of stacked frames where the contract stacks them. The answer to one
        observation is an action that is in the environment's action space; to B of them, an array [B, …]. `greedy` takes
        the most probable action, else one is drawn; None: as the run was evaluated. A recurrent network remembers what
        it saw since `reset`, B environments at a time. Raises UsageError for what is no observation of its environment.
        """
        seen, single = self._batch(observation)
        batch = torch.from_numpy(self.contract.standardized(seen))
        if self._state is None or len(self._state) != len(batch):
            self._state = self.policy.initial_state(len(batch))
        output = self.policy.act(batch, self._state, ActContext(0, self.random, None, self.greedily(greedy)))
        self._state = output.state
        actions = self.contract.spaces.actions
        action = actions.for_environment(output.action.numpy())
        if not single:
            return action
        return action[0] if actions.is_discrete else np.asarray(action[0])

    def _batch(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Observations [B, *O], and whether what was given is only one."""
        spaces = self.contract.spaces
        expected = spaces.observation_shape
        as_kept = Spaces(expected, spaces.observation_dtype, spaces.actions)
        if spaces.entries:
            is_kept = isinstance(observation, np.ndarray) and observation.dtype == np.uint8
            is_kept = is_kept and expected in (observation.shape, observation.shape[1:])
            readings = [as_kept if is_kept else spaces]
        else:
            readings = [spaces, as_kept]
        try:
            for reading in readings:
                part = reading.parts[0]
                shape = np.shape(part.find(observation))
                single = shape == part.given_shape
                if single or shape[1:] == part.given_shape:
                    seen = pack(reading, observation, check=True, single=single)
                    if seen.shape[1:] == expected:
                        return seen, single
        except ValueError as problem:
            raise UsageError(f"{problem}; {self._expectation()}") from None
        raise UsageError(f"an observation of shape {shape}; {self._expectation()}")

    def _expectation(self) -> str:
        contract = self.contract
        shape = contract.spaces.observation_shape
        if contract.frame_stack > 1:
            return (
                f"the agent takes the last {contract.frame_stack} frames at once, an array {shape} or a batch of them, as "
                f"asyncrl.envs.make({contract.env!r}, num_envs) gives it"
            )
        return f"the agent takes what {contract.env} gives, {contract.spaces}, or a batch of it"

    def player(self, *, greedy: bool | None = None, epsilon: float = 0.0) -> datasets.Player:
        """What plays episodes with this agent's policy."""
        state, context = self.policy.initial_state(1), ActContext(0, self.random, None, self.greedily(greedy), epsilon)

        def play_on(observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
            nonlocal state
            if begins:
                state = self.policy.initial_state(1)
            output = self.policy.act(torch.from_numpy(self.contract.standardized(observation)), state, context)
            state = output.state
            return np.asarray(output.action)

        return play_on

    def greedily(self, greedy: bool | None) -> bool:
        """Does it take the most probable action? None: as the run was evaluated."""
        return self.checkpoint.config.eval_greedy if greedy is None else greedy


@standard_modes()
def load(name: Path | str, *, trust: bool = False) -> Agent:
    """The agent of a run folder (its best checkpoint, else its latest), a checkpoint folder or a pretrained name.

    It acts without running any code that the folder names. With `trust` its environment may be made also where that is
    neither this package's nor in Gymnasium's registry and somebody else has made the run; one's own runs need it not.
    Raises CheckpointError that names the file where one is damaged.
    """
    found = checkpoint.load(checkpoint_folder(name))
    found = found.trusted() if trust else found
    config, spaces = found.config, found.contract.spaces
    policy = Policy(config.algorithm, config.network, spaces, config.precision.dtype)
    policy.load(found.weights())
    return Agent(found, policy, generator(config.seed, Stream.EVALUATION))
