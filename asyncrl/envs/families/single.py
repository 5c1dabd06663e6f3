"""Families whose environments are made one at a time and stepped side by side."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.packages import version_of
from asyncrl.common.serialization import to_json
from asyncrl.envs import sources
from asyncrl.envs.action_masks import MaskedEnv, check_support, mask_source
from asyncrl.envs.checked import CheckedEnv
from asyncrl.envs.contract import Contract
from asyncrl.envs.family import Family
from asyncrl.envs.global_generators import IsolatedGenerators, preserved_generators
from asyncrl.envs.loading import translate_errors
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import Actions, MaskSource, Spaces
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
from asyncrl.envs.supervision.worker_process import first_info
from asyncrl.envs.sync_vector import SyncEnvs
from asyncrl.errors import EnvironmentFault, SystemFault, UsageError

__all__ = ["SingleFamily"]


class SingleFamily(Family):
    """A family that makes one environment at a time (`make_one`)."""

    packages: tuple[str, ...] = ("gymnasium",)
    """Packages whose versions a contract records."""
    has_action_masks: bool = False
    """Whether some of its environments have action masks."""

    @abstractmethod
    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """Return one environment whose observations are single frames; with `render`, in mode rgb_array."""

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        make = partial(self.with_time_limit, contract, render=render)
        seeds = [int(one) >> 1 for one in np.random.SeedSequence(seed).generate_state(num_envs)]
        with translate_errors(contract.env):
            if contract.backend is Backend.ASYNC and not render:
                return self._supervised(contract, make, num_envs, seeds)
            return SyncEnvs(contract.env, make, seeds)

    def _supervised(
        self, contract: Contract, make: Callable[[], gymnasium.Env[Any, Any]], num_envs: int, seeds: Sequence[int]
    ) -> VectorEnv:
        data = to_json(replace(contract, others=()))
        make_in_worker = partial(_install_and_make, sources.dump(contract), contract.env, make)
        try:
            return SupervisedVectorEnv(
                make_in_worker, num_envs, contract=data, supervision=contract.supervision, seeds=seeds
            )
        except OSError as problem:  # the environments' own errors stay in their processes
            raise SystemFault(describe_os_error(problem)) from problem

    def with_time_limit(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """Return `make_one`, truncated at the contract's episode cap, with its action mask if it has one."""
        env = self.make_one(contract, render=render)
        env = env if contract.episode_cap is None else _TimeLimit(env, contract.episode_cap)
        return MaskedEnv(env, contract.spaces.action_mask) if contract.spaces.is_masked else env

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        seeded: Any = vector.unwrapped
        if isinstance(seeded, SyncVectorEnv):
            return np.array([[env.get_wrapper_attr(name) for env in seeded.envs] for name in ("seed", "steps")])
        return getattr(seeded, "seeds_and_steps", None)

    def contract(self, env_id: str, options: EnvOptions, **fields: Any) -> Contract:
        """Return the contract of `env_id`; `fields` override those that all families of this kind have in common.

        One environment is made to read its spaces.
        """
        if options.env_backend is Backend.ENVPOOL:
            raise UsageError(f"{env_id} is not an environment of EnvPool; use --env-backend sync or async")
        if options.env_backend is Backend.ASYNC and not HAS_WORKERS:
            raise UsageError("--env-backend async needs Linux or macOS; use --env-backend sync")
        backend = Backend.SYNC if options.env_backend is Backend.AUTO else options.env_backend
        common: dict[str, Any] = {
            "env": env_id,
            "family": self.name,
            "backend": backend,
            "reward_clip": options.reward_clip or None,
            "reward_scale": options.reward_scale,
            "final_reward": options.final_reward,
            "episode_cap": options.episode_steps,
            "supervision": options.supervision,
            "versions": {name: version_of(name) for name in self.packages},
            "shared_generators": "own per episode",
        }
        common |= fields
        kwargs = options.constructor_kwargs()
        if kwargs:
            common["settings"] = common.get("settings", {}) | {"kwargs": kwargs}
        without_spaces = Contract(**common, spaces=Spaces((), "float32", Actions()))
        generators = IsolatedGenerators()
        with translate_errors(env_id, kwargs=kwargs), preserved_generators():
            env = generators.make(partial(self.make_one, without_spaces, render=False), 0)
            observed, acted = _spaces(env_id, env)
            spaces = spaces_of(env_id, observed, acted)
            if self.has_action_masks:
                mask = self._mask_source(without_spaces, env, generators)
                if options.action_mask:
                    check_support(env_id, env, mask)
                    spaces = spaces_of(env_id, observed, acted, mask)
                else:
                    without_spaces = replace(without_spaces, ignored_action_mask=mask)
        with translate_errors(env_id, "was closed"), preserved_generators():
            env.close()
        return replace(without_spaces, spaces=spaces.stacked(without_spaces.frame_stack))

    def _mask_source(self, contract: Contract, env: gymnasium.Env[Any, Any], generators: IsolatedGenerators) -> MaskSource:
        """Return where the environment's action mask comes from, for which it may have to be reset once.

        An environment that fails here has no mask; the run itself meets its failure. With workers it is reset in one.
        """

        def reset() -> Mapping[Any, Any]:
            if contract.backend is not Backend.ASYNC:
                with contextlib.suppress(EnvironmentFault):
                    return CheckedEnv(env, generators).reset(seed=0)[1]
                return {}
            make = partial(self.make_one, contract, render=False)
            in_worker = partial(_install_and_make, sources.dump(contract), contract.env, make)
            return first_info(in_worker, contract.supervision.step_timeout)

        return mask_source(env, reset)


class _TimeLimit(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates episodes after `cap` steps. A result that is not a five-tuple is left to `CheckedEnv`."""

    def __init__(self, env: gymnasium.Env[Any, Any], cap: int) -> None:
        super().__init__(env)
        self._cap = cap
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        result: Any = self.env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            return result
        observation, reward, terminated, truncated, info = result
        self._steps += 1
        return observation, reward, terminated, self._steps >= self._cap or truncated, info


def _install_and_make(data: bytes, env_id: str, make: Callable[[], gymnasium.Env[Any, Any]]) -> gymnasium.Env[Any, Any]:
    """Make an environment in another process, after installing the code that it cannot import."""
    sources.install(data, env_id)
    return make()


def _spaces(env_id: str, env: Any) -> Iterator[gymnasium.Space[Any]]:
    """Yield the observation and action space. Raises UsageError for one that is missing or not Gymnasium's."""
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if space is None:
            raise UsageError(f"{env_id} has no {name}; set self.{name} in its constructor")
        if not isinstance(space, gymnasium.Space):
            kind = f"{type(space).__module__}.{type(space).__qualname__}"
            raise UsageError(f"{env_id} has the {name} {space!r}, a {kind}; asyncrl takes spaces of gymnasium.spaces")
        yield space
