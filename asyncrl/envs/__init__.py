"""Environments: `describe` returns the contract of an id, `make` builds its environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from gymnasium.vector import VectorEnv

from asyncrl.common.validation import check_whole
from asyncrl.envs.contract import Contract, named_outside, reject_untrusted_code
from asyncrl.envs.contract_checks import read_contract
from asyncrl.envs.contract_lines import contract_lines
from asyncrl.envs.environments import Environments, Step
from asyncrl.envs.family_options import convert, option_names, read_options
from asyncrl.envs.options import Backend, EnvOptions, Supervision
from asyncrl.envs.registry import FAMILIES, family_named, family_of
from asyncrl.envs.sources import EnvSource, env_id_of
from asyncrl.envs.standardization import with_measured_observations
from asyncrl.envs.view import View
from asyncrl.errors import UsageError, suggestions

__all__ = [
    "Backend",
    "Contract",
    "EnvOptions",
    "EnvSource",
    "Environments",
    "Step",
    "Supervision",
    "View",
    "contract_lines",
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

_LEARNING = ("reward_clip", "reward_scale", "final_reward", "standardize")
"""Options that change what agents learn from, but nothing about the environment."""


def describe(env_id: EnvSource, options: EnvOptions | None = None) -> Contract:
    """Return the contract of an environment (an id, a class or a function) under `options`.

    Raises UsageError for an unknown environment, a missing package, and options that do not fit.
    """
    name = env_id_of(env_id)
    options = options or EnvOptions()
    family = family_of(name, options)
    contract = family.describe(name, convert(options, family, name))
    if options.imports:
        contract = dataclasses.replace(contract, settings={**contract.settings, "imports": list(options.imports)})
    return with_measured_observations(contract, options.standardize) if options.standardize else contract


def describe_all(env_ids: Sequence[str], options: EnvOptions | None = None) -> Contract:
    """Return the contract of several environments that one agent is trained in.

    Raises UsageError unless all have the same spaces.
    """
    first, *others = (describe(env_id, options) for env_id in env_ids)
    for other in others:
        if other.spaces.action_mask is not first.spaces.action_mask:
            ours, theirs = (f"{c.env} has {c.spaces.action_mask.value}" for c in (first, other))
            raise UsageError(f"one agent needs its action mask from the same place everywhere: {ours}, {theirs}")
        if other.spaces != first.spaces:
            ours, theirs = (f"{c.spaces.observation_shape} and {c.spaces.actions.in_words}" for c in (first, other))
            raise UsageError(
                f"{first.env} has observations {ours}, {other.env} has {theirs}: one agent needs the same spaces everywhere"
            )
    return dataclasses.replace(first, others=tuple(others))


def make(env_id: EnvSource, num_envs: int, seed: int | None = None, **options: Any) -> VectorEnv:
    """Return a Gymnasium vector environment with next-step autoreset, by the fastest correct backend.

    `env_id` is an id, an environment's class or a function that makes one. `options` are the fields of `EnvOptions` and
    those of the environment's family, except those that only change what agents learn from. With a `seed`, the environments
    are already reset.

    >>> envs = make("CartPole-v1", num_envs=8, seed=1)
    """
    check_whole("num_envs", num_envs)
    if seed is not None:
        check_whole("seed", seed, 0)
        if seed + num_envs > 2**31:
            raise UsageError(f"--seed must be at most {2**31 - num_envs} for {num_envs} environments, not {seed}")
    for name in options:
        if name not in option_names():
            raise UsageError(f"{name} is not an environment option{suggestions(name, option_names())}")
    read = read_options(env_id_of(env_id), options, "options")
    for name in _LEARNING:
        if name in read.non_defaults():
            raise UsageError(
                f"asyncrl.envs.make takes no {name}: it changes what an agent learns from, so it is for training"
            )
    contract = describe(env_id, read)
    environments = Environments(contract, num_envs)
    if seed is not None:
        environments.reset([seed + i for i in range(num_envs)])
    return environments.vector


def is_batched(contract: Contract) -> bool:
    """Return whether native code steps the environments together, any number of them in one process."""
    return family_named(contract.family).is_batched(contract)


def known_ids() -> list[str]:
    """Return every environment id of this installation."""
    return [env_id for ids in ids_by_family().values() for env_id in ids]


def ids_by_family() -> dict[str, list[str]]:
    """Return every environment id of this installation, by the name of its family."""
    return {family.name: [env_id for env_id in family.known_ids() if family_of(env_id) is family] for family in FAMILIES}
