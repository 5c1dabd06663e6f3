"""A vector environment that steps its environments one after another in the calling process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate

from asyncrl.envs.checked import CheckedEnv
from asyncrl.envs.global_generators import preserved_generators
from asyncrl.envs.infos import batched
from asyncrl.envs.seeding import EpisodeSeeding, each_seed
from asyncrl.errors import EnvironmentFault, UsageError

__all__ = ["SyncEnvs"]

_owners: WeakValueDictionary[int, SyncEnvs] = WeakValueDictionary()
"""The owner of each environment, by `id`. Owners keep their environments alive, so no id is reused."""


class SyncEnvs(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv with next-step autoreset, for environments that are not written with care.

    Each environment has its own state of the process's random generators. Observations are copied at once, because
    environments may reuse one buffer. Infos may differ between environments. An environment that is given twice is
    refused.
    """

    def __init__(self, env_id: str, make: Callable[[], gymnasium.Env[Any, Any]], seeds: Sequence[int]) -> None:
        """`seeds`, one per environment, seed the random generators that constructors draw from."""
        self._layers: list[Any] = []
        self._checked: list[CheckedEnv] = []
        self._needs_isolation = True
        """Whether some environment may draw from the process's generators."""
        try:
            for seed in seeds:
                with preserved_generators():
                    env = CheckedEnv.made(make, seed)
                    self._claim(env, env_id)
                self._checked.append(env)
            first, *others = ((env.observation_space, env.action_space) for env in self._checked)
            if any(other != first for other in others):
                raise EnvironmentFault("has different spaces each time it is made; all copies need the same spaces")
            envs = [partial(EpisodeSeeding, env) for env in self._checked]
            with preserved_generators():  # batching gives the spaces, which other environments may share, generators
                super().__init__(envs, autoreset_mode=AutoresetMode.NEXT_STEP)
        except BaseException:
            for env in self._checked:
                with suppress(Exception), preserved_generators():
                    env.close()
            self._release()
            raise

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset as SyncVectorEnv does; environments outside the option `reset_mask`, [B] bool, keep their state."""
        seeds = each_seed(seed, self.num_envs) or [None] * self.num_envs
        env_options = dict(options or {})
        chosen = np.flatnonzero(env_options.pop("reset_mask", np.ones(self.num_envs, dtype=bool)))
        infos: dict[int, dict[str, Any]] = {}
        with self._isolation():
            for i in chosen.tolist():
                observation, infos[i] = self.envs[i].reset(seed=seeds[i], options=env_options or None)
                _write(self._observations, i, observation)
        self._terminations[chosen] = self._truncations[chosen] = self._autoreset_envs[chosen] = False
        return deepcopy(self._observations), batched(infos, self.num_envs)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        infos: dict[int, dict[str, Any]] = {}
        with self._isolation():
            for i, action in enumerate(iterate(self.action_space, actions)):
                if self._autoreset_envs[i]:
                    observation, info = self.envs[i].reset()
                    result: Any = 0.0, False, False
                else:
                    observation, *result, info = self.envs[i].step(action)
                _write(self._observations, i, observation)
                self._rewards[i], self._terminations[i], self._truncations[i] = result
                if info:
                    infos[i] = info
        self._autoreset_envs = self._terminations | self._truncations
        copies = self._rewards.copy(), self._terminations.copy(), self._truncations.copy()
        return deepcopy(self._observations), *copies, batched(infos, self.num_envs) if infos else {}

    def render(self) -> Any:
        with preserved_generators():
            return super().render()

    def close_extras(self, **kwargs: Any) -> None:
        with preserved_generators():
            super().close_extras(**kwargs)
        self._release()

    def _isolation(self) -> AbstractContextManager[None]:
        if self._needs_isolation:
            self._needs_isolation = any(env.is_isolated for env in self._checked)
        return preserved_generators() if self._needs_isolation else nullcontext()

    def _claim(self, env: gymnasium.Env[Any, Any], env_id: str) -> None:
        """Become the owner of an environment. Raises UsageError if it, or one inside it, already has an owner."""
        for layer in _layers_of(env):
            owner = _owners.setdefault(id(layer), self)
            if owner is not self or any(layer is other for other in self._layers):
                raise UsageError(
                    f"{env_id} returns the same environment twice ({type(layer).__name__}): each call must make a new one; "
                    "if there can be only one, use --actors 1 --envs-per-actor 1 --eval-every 0"
                )
            self._layers.append(layer)

    def _release(self) -> None:
        for layer in self._layers:
            _owners.pop(id(layer), None)
        self._layers.clear()


def _layers_of(env: Any) -> Iterator[Any]:
    """Yield an environment and the environments that it wraps."""
    seen: set[int] = set()
    while isinstance(env, gymnasium.Env) and id(env) not in seen:
        seen.add(id(env))
        yield env
        env = getattr(env, "env", None)


def _write(batch: Any, row: int, value: Any) -> None:
    """Copy one environment's observation into a row of a batch, of a Box or of a Dict or Tuple of them."""
    if isinstance(batch, dict):
        for name, part in batch.items():
            _write(part, row, value[name])
    elif isinstance(batch, tuple):
        for part, part_value in zip(batch, value, strict=True):
            _write(part, row, part_value)
    else:
        batch[row] = value
