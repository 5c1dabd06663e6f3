"""Compares an exported policy with its agent on observations of the environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asyncrl.agents.agent import Agent
from asyncrl.agents.export.policy import ExportedPolicy, inputs_of, network_of, outputs_of
from asyncrl.algorithms import ActContext, Policy
from asyncrl.common.hardware import cores
from asyncrl.common.randomness import Stream, constructor_seed, environment_seeds, generator
from asyncrl.envs import Contract, Environments
from asyncrl.envs.actions import Actions
from asyncrl.errors import AsyncRLError

__all__ = ["Parity", "check_parity", "tolerance"]

_TOLERANCE = 1e-5
_STATE_TOLERANCE = 1e-4
"""For the recurrent state: a cell adds up what many features leave, so that rounding shows in it ten times as much as in
the actions' probabilities."""
_MAX_ENVS = 8


@dataclass(frozen=True)
class Parity:
    """The result of a comparison."""

    observations: int
    differences: Mapping[str, float]
    """The largest difference of each output, relative to numbers larger than 1; of a discrete action, the difference in
    probability or value between the two choices."""


def tolerance(output: str) -> float:
    """Return the largest difference that an output may have, relative to numbers larger than 1."""
    return _STATE_TOLERANCE if output == "next_state" else _TOLERANCE


class _Reference:
    """The agent's policy, with its weights in float32."""

    def __init__(self, agent: Agent, weights: Tensor) -> None:
        config, self._actions = agent.checkpoint.config, agent.contract.spaces.actions
        self._network = network_of(agent.checkpoint, weights)
        self._policy = Policy(config.algorithm, config.network, agent.contract.spaces, torch.float32)
        self._policy.load(weights)
        self._greedy = agent.resolve_greedy(None)
        self.initial_state = self._policy.initial_state

    @torch.no_grad()
    def outputs(self, observation: Tensor, state: Tensor) -> dict[str, np.ndarray]:
        """Return what the policy should return for observations [B, *O] and the state [B, S]."""
        named = {name: value.numpy() for name, value in outputs_of(self._network(observation[None], state, None)).items()}
        action = self._policy.act(observation, state, _context(0, greedy=True)).action
        return {**named, "action": self._actions.for_environment(action.numpy())}

    def play(self, observation: Tensor, state: Tensor, random: torch.Generator) -> tuple[np.ndarray, Tensor]:
        """Return the actions [B, …] as in the run's evaluations, and the next state."""
        output = self._policy.act(observation, state, ActContext.evaluation(random, greedy=self._greedy))
        return output.action.numpy(), output.state


def check_parity(session: Any, policy: ExportedPolicy, agent: Agent, contract: Contract, observations: int) -> Parity:
    """Play with the agent, and compare what an onnxruntime session of the exported `policy` returns.

    Both get the agent's recurrent state. Raises AsyncRLError at the first output that differs by more than its `tolerance`.
    """
    reference = _Reference(agent, agent.checkpoint.weights())
    spaces, names = contract.spaces, [output.name for output in session.get_outputs()]
    taken = {one.name for one in session.get_inputs()}
    largest = dict.fromkeys(names, 0.0)
    count = 0
    for raw, seen, state in _steps(reference, agent, contract, observations):
        given = {**inputs_of(spaces, policy.inputs, raw), "state": state.numpy()}
        found = session.run(names, {name: value for name, value in given.items() if name in taken})
        expected = reference.outputs(seen, state)
        for name, ours in zip(names, found, strict=True):
            difference = _difference(name, ours, expected, spaces.actions)
            largest[name] = max(largest[name], difference)
            if not difference <= tolerance(name):  # also for NaN
                where = f"observations {count + 1:,} to {count + len(raw):,}"
                raise AsyncRLError(
                    f"the exported policy differs from the agent in {where}: {name} by {difference:.2g}, more than "
                    f"{tolerance(name):g}; nothing was written, please report it"
                )
        count += len(raw)
    return Parity(count, largest)


def _steps(
    reference: _Reference, agent: Agent, contract: Contract, observations: int
) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
    """Yield observations [B, *O] before and after standardization, and the agent's state [B, S], of its episodes."""
    config, seed = agent.checkpoint.config, agent.checkpoint.config.seed
    num_envs = min(observations, _MAX_ENVS, config.evaluation_envs(contract))
    environments = Environments(contract, num_envs, threads=cores(), training=False, seed=constructor_seed(seed))
    with contextlib.closing(environments):
        observation = environments.reset(environment_seeds(seed, Stream.EVALUATION, num_envs))
        state, resets, random = (
            reference.initial_state(num_envs),
            np.zeros(num_envs, bool),
            generator(seed, Stream.EVALUATION),
        )
        for remaining in range(observations, 0, -num_envs):
            seen = torch.from_numpy(observation)
            yield environments.raw_observation[:remaining], seen[:remaining], state[:remaining]
            action, state = reference.play(seen, state, random)
            state = torch.where(torch.from_numpy(resets)[:, None], 0.0, state)
            observation, _, _, resets = environments.step(action)


def _difference(name: str, found: np.ndarray, expected: Mapping[str, np.ndarray], actions: Actions) -> float:
    """Return the largest difference of an output from the expected one."""
    wanted = expected[name]
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise AsyncRLError(
            f"the exported policy has {name} {found.dtype} {list(found.shape)} where the agent has {wanted.dtype} "
            f"{list(wanted.shape)}; nothing was written, please report it"
        )
    if name == "action" and not actions.is_continuous:
        return _choice_difference(found, expected, actions)
    if not found.size:
        return 0.0
    difference = np.abs(found.astype(np.float64) - wanted) / np.maximum(1.0, np.abs(wanted.astype(np.float64)))
    return float(difference.max())


def _choice_difference(found: np.ndarray, expected: Mapping[str, np.ndarray], actions: Actions) -> float:
    """Return how much worse, by the agent's values or probabilities, the choices `found` are than the best ones."""
    values = expected.get("q", expected.get("action_probabilities"))
    if values is None:
        return 0.0 if np.array_equal(found, expected["action"]) else np.inf
    chosen = actions.of_policy(found).reshape(len(found), -1)
    parts = zip(actions.split(values), chosen.T, strict=True)
    gaps = [part.max(1) - np.take_along_axis(part, choice[:, None], 1)[:, 0] for part, choice in parts]
    scale = np.maximum(1.0, np.abs(values).max()) if "q" not in expected else np.maximum(1.0, np.abs(values.max(1)))
    return float(np.max(np.stack(gaps) / scale))


def _context(seed: int, *, greedy: bool) -> ActContext:
    return ActContext.evaluation(generator(seed, Stream.EVALUATION), greedy=greedy)
