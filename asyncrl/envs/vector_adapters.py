"""Adapters for other packages' vector environments, the `vector_entry_point`s of Gymnasium's registry."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import concatenate, create_empty_array

from asyncrl.envs.global_generators import IsolatedGenerators, preserved_generators
from asyncrl.envs.infos import batched
from asyncrl.errors import EnvironmentFault

__all__ = ["NextStepVectorEnv", "SingleFromVector", "autoreset_mode"]


def autoreset_mode(vector: VectorEnv) -> AutoresetMode | None:
    """Return the autoreset mode in a vector environment's metadata; None if it is missing or unknown."""
    value = (vector.metadata or {}).get("autoreset_mode")
    name = str(value.value if isinstance(value, AutoresetMode) else value).replace("_", "").replace("-", "").lower()
    return next((mode for mode in AutoresetMode if mode.value.lower() == name), None)


class NextStepVectorEnv(VectorWrapper):
    """A vector environment with next-step autoreset, with its results checked and copied.

    Its environments share one state of the process's random generators. Results are copied because some vector
    environments reuse their arrays.
    """

    def __init__(self, make: Callable[[], VectorEnv], seed: int) -> None:
        """The constructor's draws depend on `seed` alone."""
        self._generators: IsolatedGenerators | None = IsolatedGenerators()
        with preserved_generators():
            super().__init__(self._generators.make(make, seed))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with self._isolation():
            if self._generators is None:
                observation, infos = self.env.reset(seed=seed, options=options)
            else:
                observation, infos = self._generators.reset(self.env.reset, seed, options)
        return deepcopy(observation), self._as_dict(infos)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        with self._isolation():
            result = self.env.step(actions) if self._generators is None else self._generators.step(self.env.step, actions)
        if not isinstance(result, tuple) or len(result) != 5:
            raise EnvironmentFault("must return observation, reward, terminated, truncated, infos from step")
        observation, reward, terminated, truncated, infos = result
        rows = (np.array(x, dtype) for x, dtype in ((reward, np.float64), (terminated, bool), (truncated, bool)))
        reward, terminated, truncated = (self._checked(name, x) for name, x in zip(_ROWS, rows, strict=True))
        return deepcopy(observation), reward, terminated, truncated, self._as_dict(infos)

    def render(self) -> Any:
        with preserved_generators():
            return super().render()

    def close(self, **kwargs: Any) -> None:
        with preserved_generators():
            super().close(**kwargs)

    def _isolation(self) -> AbstractContextManager[None]:
        if self._generators is not None and not self._generators.in_use:
            self._generators = None
        return nullcontext() if self._generators is None else preserved_generators()

    def _checked(self, name: str, rows: np.ndarray) -> np.ndarray:
        if rows.shape != (self.num_envs,):
            raise EnvironmentFault(f"returned {name} of shape {rows.shape}, not ({self.num_envs},), one per environment")
        return rows

    def _as_dict(self, infos: Any) -> dict[str, Any]:
        """Return infos as a dictionary; some vector environments return a list with one per environment."""
        if isinstance(infos, dict):
            return infos
        rows = infos if isinstance(infos, list | tuple) else ()
        return batched({i: info for i, info in enumerate(rows) if isinstance(info, dict)}, self.num_envs)


_ROWS = ("rewards", "terminated", "truncated")


class SingleFromVector(gymnasium.Env[Any, Any]):
    """A single environment made of a vector environment with one, for any autoreset mode.

    Raises EnvironmentFault if it resets in the step that ends an episode and does not keep the last observation.
    """

    def __init__(self, vector: VectorEnv, mode: AutoresetMode) -> None:
        self._vector = vector
        self._mode = mode
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.metadata = vector.metadata
        self.render_mode = vector.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, infos = self._vector.reset(seed=seed, options=options)
        return _first(observation), _mask_info(infos)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        space = self._vector.single_action_space
        actions: Any = concatenate(space, [action], create_empty_array(space, 1))  # type: ignore[arg-type]
        observation, reward, terminated, truncated, infos = self._vector.step(actions)
        if self._mode is AutoresetMode.SAME_STEP and (terminated[0] or truncated[0]):
            final_info = infos.get("final_info")
            observation = infos.get("final_obs", infos.get("final_observation"))
            if observation is None:
                raise EnvironmentFault(
                    "resets in the step that ends an episode and does not return the last observation (final_obs)"
                )
            infos = final_info if isinstance(final_info, dict) else {}
        return _first(observation), reward[0], terminated[0], truncated[0], _mask_info(infos)

    def render(self) -> Any:
        pictures: Any = self._vector.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        self._vector.close()


def _mask_info(infos: Any) -> dict[str, Any]:
    """Return the action mask in the infos of one environment, as its own info."""
    masks = infos.get("action_mask") if isinstance(infos, dict) else None
    return {} if masks is None else {"action_mask": _first(masks)}


def _first(batch: Any) -> Any:
    """Return the first row of a batch."""
    if isinstance(batch, dict):
        return {name: _first(part) for name, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(_first, batch))
    return deepcopy(batch[0])
