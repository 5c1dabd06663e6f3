"""A trained policy that acts on the observations of an environment."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from asyncrl.acting.episodes import Player, PolicyPlayer
from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.hardware import processor_has_bfloat16
from asyncrl.common.randomness import Stream, generator
from asyncrl.common.torch_setup import standard_modes
from asyncrl.envs import Contract, EnvOptions, describe
from asyncrl.envs.action_masks import as_mask
from asyncrl.envs.family_options import merge
from asyncrl.envs.spaces import MaskSource, Spaces, pack
from asyncrl.errors import UsageError, continued
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.lookup import load_checkpoint

__all__ = ["Agent", "load"]


@dataclass
class Agent:
    """A trained policy that is ready to act, as returned by `load`."""

    checkpoint: checkpoint.Checkpoint
    """Where it was loaded from, with configuration and contract."""
    policy: Policy
    """The network and the algorithm, for acting."""
    random: torch.Generator
    """CPU generator for sampled actions."""
    _state: torch.Tensor | None = None

    @property
    def contract(self) -> Contract:
        """The contract of the environment it was trained in."""
        return self.checkpoint.contract

    def contract_of(
        self, env: str | None = None, env_options: EnvOptions | None = None, *, force: bool = False
    ) -> Contract:
        """Return the agent's contract for the environment `env` under `env_options`.

        `env` defaults to the first environment it was trained in. Raises UsageError if the contract differs from the one
        it was trained under, unless `force`; and always if the spaces differ.
        """
        try:
            own = self.contract.named(env)
        except UsageError as problem:
            if not force:
                raise UsageError(continued(str(problem), "use --force (force=True) to accept it")) from None
            own = self.contract.named(None)
        trained_options = self.checkpoint.config.environment
        env_options = merge(trained_options, env_options or EnvOptions())
        if env_options.standardize != trained_options.standardize:
            raise UsageError("--standardize has no effect on a trained agent, which keeps the statistics of its training")
        if env in (None, own.env) and env_options == trained_options:
            return own
        self.checkpoint.check_trust()
        requested = dataclasses.replace(
            describe(env or own.env, dataclasses.replace(env_options, standardize=0)),
            observation_mean=own.observation_mean,  # keep the statistics it was trained with
            observation_spread=own.observation_spread,
        )
        if requested.spaces != own.spaces:
            raise UsageError(f"{requested.env} has other spaces under these options: {requested.spaces}, not {own.spaces}")
        differences = requested.differences(own)
        if differences and not force:
            raise UsageError(
                f"the contract differs from the one in training ({'; '.join(differences)}); use --force (force=True) "
                "to accept it"
            )
        return requested

    def reset(self) -> None:
        """Reset the state of a recurrent network. Call it when episodes begin."""
        self._state = None

    @standard_modes()
    def act(self, observation: Any, *, greedy: bool | None = None, action_mask: Any = None) -> Any:
        """Return the action for one observation, or the actions [B, …] for a batch of B.

        An observation is what the environment, a vector environment of it or `envs.make` returns: of any space, or an
        array [*O] or [B, *O] of stacked frames if the contract stacks them. A single action is a member of the
        environment's action space. `greedy` takes the most probable action instead of sampling; None does as the run's
        evaluations did. A recurrent network keeps its state until `reset` or until B changes. Raises UsageError if the
        observation does not fit.

        An agent that was trained with action masks from the environment's infos or its method action_masks() takes the
        mask of the observation, or the masks [B, …] of a batch, as `action_mask`.
        """
        batch, single = self._batch(self._with_mask(observation, action_mask))
        tensor = torch.from_numpy(self.contract.standardized(batch))
        if self._state is None or len(self._state) != len(tensor):
            self._state = self.policy.initial_state(len(tensor))
        output = self.policy.act(tensor, self._state, self._context(greedy))
        self._state = output.state
        actions = self.contract.spaces.actions
        action = actions.for_environment(output.action.numpy())
        if not single:
            return action
        return action[0] if actions.is_discrete else np.asarray(action[0])

    def _with_mask(self, observation: Any, mask: Any) -> Any:
        """Return the observation with its action mask, in the form that `pack` takes. Raises UsageError."""
        spaces = self.contract.spaces
        is_apart = spaces.action_mask in (MaskSource.METHOD, MaskSource.INFO)
        if mask is None:
            if is_apart and not _is_packed(spaces, observation):
                raise UsageError(
                    f"{self.contract.env} gives an action mask by {spaces.action_mask.value}: pass it to act as action_mask"
                )
            return observation
        if not is_apart:
            why = "observations contain it" if spaces.is_masked else "environment gives none, or was asked to ignore it"
            raise UsageError(f"the agent of {self.contract.env} takes no action_mask: its {why}")
        try:
            single = np.shape(spaces.parts[0].find(observation)) == spaces.parts[0].given_shape
            masks = as_mask(spaces.actions, mask) if single else np.stack([as_mask(spaces.actions, one) for one in mask])
        except (TypeError, ValueError) as problem:
            _reject_reset(observation)
            raise UsageError(f"agent.act got {problem}") from None
        return {"observation": observation, "action_mask": masks}

    def _batch(self, observation: Any) -> tuple[np.ndarray, bool]:
        """Return the observations as [B, *O], and whether `observation` is a single one. Raises UsageError."""
        spaces = self.contract.spaces
        expected = spaces.observation_shape
        packed = Spaces(expected, spaces.observation_dtype, spaces.actions)
        form = packed if _is_packed(spaces, observation) else spaces
        candidates = [form] if spaces.entries else [spaces, packed]
        try:
            for candidate in candidates:
                part = candidate.parts[0]
                shape = np.shape(candidate.values(observation)[0])
                single = shape == part.given_shape
                if single or (shape[1:] == part.given_shape and shape[0] > 0):
                    batch = pack(candidate, observation, check=True, single=single)
                    if batch.shape[1:] == expected:
                        return batch, single
        except ValueError as error:
            _reject_reset(observation)
            raise UsageError(f"{error}; {self._expectation()}") from None
        _reject_reset(observation)
        raise UsageError(f"an observation of shape {shape}; {self._expectation()}")

    def _expectation(self) -> str:
        contract = self.contract
        shape = contract.spaces.observation_shape
        if contract.frame_stack > 1:
            return (
                f"the agent takes {contract.frame_stack} stacked frames, an array {shape} or a batch of them, as "
                f"asyncrl.envs.make({contract.env!r}, num_envs) returns them"
            )
        return f"the agent takes what {contract.env} returns, {contract.spaces}, or a batch of it"

    def player(self, *, greedy: bool | None = None, epsilon: float = 0.0) -> Player:
        """Return a `Player` that acts with the agent's policy."""
        play = PolicyPlayer(self.policy, self._context(greedy, epsilon))
        return lambda observation, info, begins: play(self.contract.standardized(observation), info, begins)

    def resolve_greedy(self, greedy: bool | None) -> bool:
        """Return `greedy`, or the setting of the run's evaluations if it is None."""
        return self.checkpoint.config.eval_greedy if greedy is None else greedy

    def _context(self, greedy: bool | None, epsilon: float = 0.0) -> ActContext:
        greedy = self.resolve_greedy(greedy)
        return ActContext.evaluation(self.random, greedy=greedy, epsilon=epsilon)


def _reject_reset(observation: Any) -> None:
    """Raise UsageError for what `env.reset()` returns, given as an observation."""
    if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
        raise UsageError("the observation is a tuple; env.reset() returns (observation, info)")


def _is_packed(spaces: Spaces, observation: Any) -> bool:
    """Return whether an observation, or a batch, has the form of rollouts already: the bytes of its parts."""
    is_bytes = isinstance(observation, np.ndarray) and observation.dtype == np.uint8
    return is_bytes and spaces.observation_shape in (observation.shape, observation.shape[1:])


@standard_modes()
def load(name: str | os.PathLike[str], *, trust: bool = False) -> Agent:
    """Return a trained agent that is ready to act.

    A custom algorithm or network is imported here, a custom environment only when the agent is evaluated or played.
    If someone else made the folder, both need `trust`. An agent that was trained in bfloat16 acts in float32 on a processor
    without bfloat16 arithmetic, which is faster there.

    Args:
        name: A run, the folder of a run or a checkpoint, the name of a pretrained agent, hf:USER/NAME, or the URL of a run
            in a storage. Of a run: the best checkpoint, or the latest without evaluations.
        trust: Run code that the folder names even if someone else made the folder.

    Raises:
        UsageError: If the run or agent does not exist, or names untrusted code.
        CheckpointError: If a file is missing or damaged.
    """
    found = load_checkpoint(name, trust=trust)
    config, spaces = found.config, found.contract.spaces
    dtype = config.precision.dtype if processor_has_bfloat16() else torch.float32
    policy = Policy(config.algorithm, config.network, spaces, dtype)
    policy.load(found.weights())
    return Agent(found, policy, generator(config.seed, Stream.EVALUATION))
