"""Any environment in Gymnasium's registry, through Gymnasium's own vector environments."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from asyncrl.envs.contract import Backend, Contract, EnvOptions
from asyncrl.envs.guarded import Guarded
from asyncrl.errors import EnvironmentFault, UsageError, near_matches
from asyncrl.spaces import spaces_of

__all__ = ["build", "describe", "known_ids"]

_OWN = {"backend", "reward_clip", "reward_scale", "final_reward", "episode_steps", "standardize"}
"""The options that mean something here."""


def describe(env_id: str, options: EnvOptions) -> Contract:
    """The contract of one registered id under `options`."""
    spec = _spec(env_id)
    for option in dataclasses.fields(options):
        if option.name not in _OWN and getattr(options, option.name) is not None:
            raise UsageError(f"--{option.name.replace('_', '-')} is for Atari; {env_id} has no such setting.")
    backend = options.backend
    if backend is Backend.AUTO:
        backend = Backend.NATIVE if spec.vector_entry_point else Backend.SYNC
    if options.episode_steps is not None and options.episode_steps < 1:
        raise UsageError(f"--episode-steps must be 1 or more, not {options.episode_steps}")
    if backend is Backend.NATIVE and not spec.vector_entry_point:
        raise UsageError(f"{env_id} has no vector environment of its own; use --backend sync or async.")
    with _complaints(env_id), contextlib.closing(gymnasium.make(env_id)) as env:
        spaces = spaces_of(env_id, env.observation_space, env.action_space)
    return Contract(
        env=env_id,
        family="gymnasium",
        backend=backend,
        spaces=spaces,
        reward_clip=options.reward_clip or None,
        reward_scale=options.reward_scale,
        final_reward=options.final_reward,
        episode_cap=options.episode_steps or spec.max_episode_steps,
        versions={"gymnasium": version("gymnasium")},
    )


def build(contract: Contract, num_envs: int, *, render: bool = False) -> VectorEnv:
    """`num_envs` copies behind Gymnasium's vector API, next-step autoreset; with `render`, ones that draw themselves."""
    cap: dict[str, Any] = {} if contract.episode_cap is None else {"max_episode_steps": contract.episode_cap}
    if contract.backend is Backend.NATIVE and not render:
        return gymnasium.make_vec(contract.env, num_envs, vectorization_mode="vector_entry_point", **cap)
    settings: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    mode = "sync"
    if contract.backend is Backend.ASYNC and not render:
        mode = "async"
        settings |= {"context": "spawn"}  # not forked from where torch lives: a worker does without
    own: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    with _complaints(contract.env):
        return gymnasium.make_vec(
            contract.env, num_envs, vectorization_mode=mode, vector_kwargs=settings, wrappers=[Guarded], **own, **cap
        )


def seeds(vector: VectorEnv, values: Sequence[int]) -> Any:
    """As `reset` takes them: a native vector environment draws all its episodes from one stream."""
    return list(values) if isinstance(vector, SyncVectorEnv | AsyncVectorEnv) else values[0]


def ended(terminated: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """[B] bool: the episode is over and the next step resets."""
    return np.asarray(terminated | truncated)


def known_ids() -> list[str]:
    """Every id in the registry that is not an alias of Atari's."""
    return sorted(name for name, spec in gymnasium.registry.items() if "ale_py" not in str(spec.entry_point))


def _spec(env_id: str) -> Any:
    module, colon, name = env_id.rpartition(":")
    try:
        if module:  # "module:Env-v0": importing the module registers the id
            with _complaints(env_id):
                importlib.import_module(module)
        return gymnasium.spec(name)
    except ImportError as problem:
        raise UsageError(f"{env_id}: {problem}") from None
    except gymnasium.error.Error:
        known = [f"{module}{colon}{name}" for name in gymnasium.registry]
        raise UsageError(f"there is no environment {env_id!r}{near_matches(env_id, known)} (asyncrl list envs)") from None


@contextlib.contextmanager
def _complaints(env_id: str) -> Iterator[None]:
    """Say of an environment that cannot be made what to install, or what it raised."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as problem:
        raise UsageError(f"{env_id} needs a package that is not installed: {problem}") from None
    except ImportError:
        raise
    except Exception as problem:
        if isinstance(problem, TypeError) and "render_mode" in str(problem):
            raise UsageError(f"{env_id} cannot draw itself: its constructor takes no render_mode") from None
        message = f"{env_id} raised {type(problem).__name__} when it was made: {problem}"
        raise EnvironmentFault(message, traceback.format_exc()) from problem
