"""Families whose environments are made one at a time, as Gymnasium's are, and stepped side by side."""

from __future__ import annotations

import contextlib
import json
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.serialization import to_json
from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs import sources
from asyncrl.envs.contract import Contract
from asyncrl.envs.families.cartpole import SeededCartPole
from asyncrl.envs.family import Family
from asyncrl.envs.global_generators import IsolatedGenerators, lent
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.spaces import Actions, Spaces, spaces_of
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
from asyncrl.envs.sync_vector import SyncEnvs
from asyncrl.errors import AsyncRLError, EnvironmentFault, SystemFault, UsageError

__all__ = ["SingleFamily", "kwargs_of", "translate_errors"]


class SingleFamily(Family):
    """A family that makes one environment after the other (`make_one`)."""

    options = frozenset({"env_kwargs", "final_reward", "episode_steps", "standardize"})
    packages: tuple[str, ...] = ("gymnasium",)
    """Whose versions a contract notes."""

    @abstractmethod
    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """One environment whose observations are single frames; with `render`, in the mode rgb_array."""

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        make = partial(self.capped, contract, render=render)
        seeds = [int(one) >> 1 for one in np.random.SeedSequence(seed).generate_state(num_envs)]
        with translate_errors(contract.env):
            if contract.backend is Backend.ASYNC and not render:
                how = to_json(replace(contract, others=()))
                there = partial(_made_elsewhere, sources.dump(contract), contract.env, make)
                try:
                    return SupervisedVectorEnv(there, num_envs, contract=how, supervision=contract.supervision, seeds=seeds)
                except OSError as problem:  # no environment's, which are in processes of their own
                    raise SystemFault(describe_os_error(problem)) from problem
            return SyncEnvs(contract.env, make, seeds)

    def capped(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """`make_one`, truncated at the contract's cap."""
        env = self.make_one(contract, render=render)
        return env if contract.episode_cap is None else gymnasium.wrappers.TimeLimit(env, contract.episode_cap)

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        """Another native vector environment draws all its episodes from one stream."""
        each = isinstance(vector.unwrapped, SyncVectorEnv | SupervisedVectorEnv | SeededCartPole)
        return list(values) if each else values[0]

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        seeded: Any = vector.unwrapped
        if isinstance(seeded, SyncVectorEnv):
            return np.array([[env.get_wrapper_attr(name) for env in seeded.envs] for name in ("seed", "steps")])
        return getattr(seeded, "seeds_and_steps", None)

    def contract(self, env_id: str, options: EnvOptions, **fields: Any) -> Contract:
        """What `env_id` means; `fields` are those of `Contract` that this family decides, besides the common ones.

        An environment is made to see its spaces.
        """
        if options.episode_steps is not None and options.episode_steps < 1:
            raise UsageError(f"--episode-steps must be 1 or more, not {options.episode_steps}")
        if options.env_backend is Backend.ENVPOOL:
            raise UsageError(f"{env_id} is not stepped by envpool; use --env-backend sync or async.")
        if options.env_backend is Backend.ASYNC and not HAS_WORKERS:
            raise UsageError("--env-backend async needs Linux or macOS; use --env-backend sync")
        backend = Backend.SYNC if options.env_backend is Backend.AUTO else options.env_backend
        common: dict[str, Any] = dict(
            env=env_id,
            family=self.name,
            backend=backend,
            reward_clip=options.reward_clip or None,
            reward_scale=options.reward_scale,
            final_reward=options.final_reward,
            episode_cap=options.episode_steps,
            supervision=options.supervision,
            versions={name: version(name) for name in self.packages},
            shared_generators="own per episode",
        )
        common |= fields
        kwargs = kwargs_of(options)
        if kwargs:
            common["settings"] = common.get("settings", {}) | {"kwargs": kwargs}
        unseen = Contract(**common, spaces=Spaces((), "float32", Actions()))
        with translate_errors(env_id, given=kwargs), lent():
            env = IsolatedGenerators().make(partial(self.make_one, unseen, render=False), 0)
            spaces = spaces_of(env_id, *_spaces(env_id, env))
        with translate_errors(env_id, "was closed"), lent():
            env.close()
        return replace(unseen, spaces=spaces.stacked(unseen.frame_stack))


def _made_elsewhere(data: bytes, env_id: str, make: Callable[[], gymnasium.Env[Any, Any]]) -> gymnasium.Env[Any, Any]:
    """An environment in another process, which is sent what it does not find by itself."""
    sources.install(data, env_id)
    return make()


def _spaces(env_id: str, env: Any) -> Iterator[gymnasium.Space[Any]]:
    """The spaces of observations and of actions. Raises UsageError where one is missing, or another package's."""
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if space is None:
            raise UsageError(f"{env_id} has no {name}; set self.{name} in its constructor")
        if not isinstance(space, gymnasium.Space):
            kind = f"{type(space).__module__}.{type(space).__qualname__}"
            raise UsageError(f"{env_id} has the {name} {space!r}, a {kind}; asyncrl takes spaces of gymnasium.spaces")
        yield space


def kwargs_of(options: EnvOptions) -> dict[str, Any]:
    """--env-kwargs as an object. Raises UsageError where it is none."""
    if options.env_kwargs is None:
        return {}
    try:
        found = json.loads(options.env_kwargs)
    except ValueError as problem:
        raise UsageError(f"--env-kwargs {options.env_kwargs!r} is no JSON: {problem}") from None
    if not isinstance(found, dict):
        raise UsageError(f"--env-kwargs {options.env_kwargs!r} is no JSON object, as '{{\"size\": 8}}' is")
    return found


@contextlib.contextmanager
def translate_errors(env_id: str, when: str = "was made", given: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Say of an environment that cannot be made what to install, what it was `given` in vain, or what it raised."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as problem:
        raise UsageError(f"{env_id} needs a package that is not installed: {problem}") from None
    except (ImportError, AsyncRLError):
        raise
    except BaseException as problem:
        if is_from_keyboard(problem):
            raise
        if isinstance(problem, TypeError) and "unexpected keyword argument 'render_mode'" in str(problem):
            raise UsageError(f"{env_id} cannot draw itself: its constructor takes no render_mode") from None
        if given:
            kind = type(problem).__name__
            raise UsageError(f"{env_id} was given --env-kwargs {json.dumps(given)} and raised {kind}: {problem}") from None
        message = f"{env_id} raised {type(problem).__name__} when it {when}: {problem}"
        raise EnvironmentFault(message, traceback.format_exc()) from problem
