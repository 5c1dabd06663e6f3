"""Measures the mean and standard deviation of observations, for `--standardize`."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np

from asyncrl.envs.contract import Contract
from asyncrl.envs.environments import Environments
from asyncrl.errors import UsageError

__all__ = ["with_measured_observations"]


def with_measured_observations(contract: Contract, steps: int) -> Contract:
    """Return `contract` with the mean and standard deviation of each number of an observation over `steps` random steps.

    A number that never changed keeps its scale. Raises UsageError for observations that cannot be standardized.
    """
    _check_standardizable(contract)
    random = np.random.default_rng(0)
    num_envs = 8
    with contextlib.closing(Environments(contract, num_envs)) as environments:
        seen = [environments.reset(list(range(num_envs))).copy()]  # an environment may reuse its array
        while len(seen) * num_envs < steps:
            seen.append(environments.step(contract.spaces.actions.random(random, num_envs)).observation.copy())
    flat = np.concatenate(seen).reshape(-1, contract.spaces.observation_size).astype(np.float64)
    mean = flat.mean(0)
    deviation = flat.std(0)
    changes = deviation > 1e-6 * np.maximum(1.0, np.abs(mean))
    spread = np.where(changes, deviation + 1e-6, 1.0)
    return dataclasses.replace(contract, observation_mean=tuple(mean.tolist()), observation_spread=tuple(spread.tolist()))


def _check_standardizable(contract: Contract) -> None:
    """Raise UsageError for observations that rollouts store in a form that cannot be standardized."""
    spaces = contract.spaces
    if spaces.entries or spaces.has_images or spaces.observation_dtype != "float32":
        raise UsageError(
            f"--standardize needs observations that are one array of floating-point numbers, and those of {contract.env} "
            f"are {spaces}: leave it out, or scale them in the environment"
        )
    if contract.frame_stack > 1:
        raise UsageError(
            f"--standardize does not work with --frame-stack {contract.frame_stack}: frames from before an episode are "
            "zeros, which are not standardized; use --frame-stack 1"
        )
