"""Environments behind one door: `describe` says what an id means, `make` builds it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from asyncrl.envs.contract import Contract, named_outside, reject_untrusted_code
from asyncrl.envs.contract_checks import read_contract
from asyncrl.envs.environments import Environments, Step
from asyncrl.envs.options import ActionSet, Backend, EnvOptions, FootballRewards, Protocol, Supervision
from asyncrl.envs.registry import FAMILIES, family_named, family_of
from asyncrl.envs.sources import EnvSource, env_id_of
from asyncrl.envs.view import View
from asyncrl.errors import UsageError, suggestions

__all__ = [
    "ActionSet",
    "Backend",
    "Contract",
    "EnvOptions",
    "EnvSource",
    "Environments",
    "FootballRewards",
    "Protocol",
    "Step",
    "Supervision",
    "View",
    "describe",
    "describe_all",
    "env_id_of",
    "ids_by_family",
    "is_batched",
    "known_ids",
    "make",
    "named_outside",
    "read_contract",
    "reject_untrusted_code",
]


def describe(env_id: EnvSource, options: EnvOptions | None = None) -> Contract:
    """What `env_id`, an id, a class or a function, means under `options`. Raises UsageError for what is not to be had."""
    name, options = env_id_of(env_id), options or EnvOptions()
    contract = family_of(name, options).describe(name, options)
    if options.imports:
        contract = dataclasses.replace(contract, settings={**contract.settings, "imports": list(options.imports)})
    return _with_measured_observations(contract, options.standardize) if options.standardize else contract


def describe_all(env_ids: Sequence[str], options: EnvOptions | None = None) -> Contract:
    """What several ids mean that one agent is trained in. Raises UsageError where their spaces are not the same."""
    first, *others = (describe(env_id, options) for env_id in env_ids)
    for other in others:
        if other.spaces != first.spaces:
            mine, its = (f"{c.spaces.observation_shape} and actions {c.spaces.actions}" for c in (first, other))
            raise UsageError(f"{first.env} has observations {mine}, {other.env} {its}: one agent takes the same in all")
    return dataclasses.replace(first, others=tuple(others))


def _with_measured_observations(contract: Contract, steps: int) -> Contract:
    """The same with the mean and the spread of each number of an observation over `steps` random steps.

    A number that did not change keeps its scale. Raises UsageError for observations that cannot be standardized.
    """
    _check_standardizable(contract)
    random, envs = np.random.default_rng(0), 8
    with contextlib.closing(Environments(contract, envs)) as environments:
        seen = [environments.reset(list(range(envs))).copy()]  # an environment may show all in one array
        while len(seen) * envs < steps:
            seen.append(environments.step(contract.spaces.actions.random(random, envs)).observation.copy())
    flat = np.concatenate(seen).reshape(-1, contract.spaces.observation_size).astype(np.float64)
    mean, spread = flat.mean(0), flat.std(0)
    spread = np.where(spread > 1e-6 * np.maximum(1.0, np.abs(mean)), spread + 1e-6, 1.0)
    return dataclasses.replace(contract, observation_mean=tuple(mean.tolist()), observation_spread=tuple(spread.tolist()))


def _check_standardizable(contract: Contract) -> None:
    """Raise UsageError where rollouts cannot keep what is standardized: learners would see other numbers than actors."""
    spaces = contract.spaces
    if spaces.entries or spaces.has_images or spaces.observation_dtype != "float32":
        raise UsageError(
            f"--standardize takes observations that are one array of floating-point numbers, and those of {contract.env} "
            f"are {spaces}: leave it out, or scale them in the environment"
        )
    if contract.frame_stack > 1:
        raise UsageError(
            f"--standardize is not for --frame-stack {contract.frame_stack}: frames from before an episode are zeros in a "
            "stack, which are not standardized; use --frame-stack 1"
        )


def make(env_id: EnvSource, num_envs: int, seed: int | None = None, **options: Any) -> VectorEnv:
    """A Gymnasium vector environment, next-step autoreset, by the fastest correct way.

    `env_id` is an id, an environment's class or a function that makes one; `options` are the fields of `EnvOptions`.
    With `seed` it is already reset.

    >>> envs = make("CartPole-v1", num_envs=8, seed=1)
    """
    known = {field.name for field in dataclasses.fields(EnvOptions)}
    for name in options:
        if name not in known:
            raise UsageError(f"{name} is not an environment option{suggestions(name, known)}")
    environments = Environments(describe(env_id, EnvOptions(**options)), num_envs)
    if seed is not None:
        environments.reset([seed + i for i in range(num_envs)])
    return environments.vector


def is_batched(contract: Contract) -> bool:
    """Are its environments stepped together in native code, any number of them in one process?"""
    return family_named(contract.family).is_batched(contract)


def known_ids() -> list[str]:
    """Every environment id that this installation knows."""
    return [env_id for ids in ids_by_family().values() for env_id in ids]


def ids_by_family() -> dict[str, list[str]]:
    """Every environment id that this installation knows, by the name of its family."""
    return {family.name: [env_id for env_id in family.known_ids() if family_of(env_id) is family] for family in FAMILIES}
