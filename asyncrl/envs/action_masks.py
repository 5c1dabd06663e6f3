"""Action masks: environments that say which actions they allow next.

A mask is 1 where an action is allowed, as in Gymnasium and PettingZoo. It becomes part of the observation, so rollouts and
replay store it like everything else that a policy sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from asyncrl.envs.actions import Actions, actions_of
from asyncrl.envs.global_generators import preserved_generators
from asyncrl.envs.observation_checks import described
from asyncrl.envs.spaces import MaskSource
from asyncrl.errors import EnvironmentFault, UsageError

__all__ = ["MaskedEnv", "MaskedVectorEnv", "as_mask", "check_support", "mask_source"]


def mask_source(env: gymnasium.Env[Any, Any], first_info: Callable[[], Mapping[Any, Any]]) -> MaskSource:
    """Return where an environment's action mask comes from; the observation is looked at first, then the method.

    `first_info` returns the info of a reset. It is called only if neither has a mask and actions are discrete.
    """
    space = env.observation_space
    if isinstance(space, spaces.Dict) and "action_mask" in space.spaces:
        return MaskSource.OBSERVATION
    if env.has_wrapper_attr("action_masks") and callable(env.get_wrapper_attr("action_masks")):
        return MaskSource.METHOD
    if isinstance(env.action_space, spaces.Box) or first_info().get("action_mask") is None:
        return MaskSource.NONE
    return MaskSource.INFO


def check_support(env_id: str, env: gymnasium.Env[Any, Any], source: MaskSource) -> None:
    """Raise UsageError if a mask from `source` cannot fit the environment's actions."""
    actions, remedy = actions_of(env_id, env.action_space), "leave it out, or ignore it with --no-action-mask"
    if source is not MaskSource.NONE and actions.is_continuous:
        raise UsageError(f"{env_id} has {source.value}, but also {actions.in_words}, which cannot be masked: {remedy}")
    if source is MaskSource.OBSERVATION:
        shape, count = env.observation_space["action_mask"].shape, sum(actions.choices)  # type: ignore[index]
        if math.prod(shape or ()) != count:
            raise UsageError(
                f"{env_id} has {source.value} of shape {shape}, but {count} choices need one number each: {remedy}"
            )


def as_mask(actions: Actions, value: Any, *, is_last: bool = False) -> np.ndarray:
    """Return one environment's mask as uint8 [Σ choices].

    Takes one number per choice, or for actions with several parts the tuple of masks that `MultiDiscrete.sample` takes.
    Raises ValueError with what is wrong with it. Each part of an action needs an allowed choice, except after an
    episode's last step, `is_last`, where no action follows.
    """
    flat = _joined(actions, value) if isinstance(value, tuple | list) else np.asarray(value)
    if flat.dtype.kind not in "biuf":
        raise ValueError(f"the action mask {described(value)}, which is not an array of 0 and 1")
    flat = flat.reshape(-1)
    count = sum(actions.choices)
    if flat.size != count:
        raise ValueError(f"an action mask of {flat.size} numbers, where {count} choices need one each")
    if flat.dtype != np.bool_ and (wrong := (flat != 0) & (flat != 1)).any():
        raise ValueError(f"an action mask with the value {flat[wrong][0]}, which is neither 0 nor 1")
    mask = flat.astype(np.uint8)
    for number, part in () if is_last else enumerate(actions.split(mask)):
        if not part.any():
            where = f" in part {number} of the action" if len(actions.choices) > 1 else ""
            raise ValueError(f"an action mask that allows nothing{where}")
    return mask


def _joined(actions: Actions, parts: tuple[Any, ...] | list[Any]) -> np.ndarray:
    """Return masks of the parts of an action, or single numbers, as one array."""
    arrays = [np.asarray(part) for part in parts]
    sizes = tuple(array.size for array in arrays)
    if any(array.ndim for array in arrays) and sizes != actions.choices:
        raise ValueError(f"action masks of {sizes} numbers, where the parts of an action have {actions.choices} choices")
    return np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.zeros(0)


class _Masks:
    """Reads and checks the masks of one kind of environment, and joins them to its observations."""

    def __init__(self, source: MaskSource, action_space: gymnasium.Space[Any]) -> None:
        self.actions = actions_of("the environment", action_space)
        self.source = source

    def space(self, observation: gymnasium.Space[Any]) -> spaces.Dict:
        """Return the space of observations with their mask."""
        mask = spaces.Box(0, 1, (sum(self.actions.choices),), np.uint8)
        if self.source is MaskSource.OBSERVATION:
            assert isinstance(observation, spaces.Dict)
            return spaces.Dict({**observation.spaces, "action_mask": mask})
        return spaces.Dict({"observation": observation, "action_mask": mask})

    def joined(self, observation: Any, mask: Any) -> Any:
        """Return an observation, or a batch, with its mask."""
        if self.source is MaskSource.OBSERVATION:
            return {**observation, "action_mask": mask}
        return {"observation": observation, "action_mask": mask}

    def checked(self, value: Any, *, is_last: bool) -> np.ndarray:
        """Return a mask as uint8 [Σ choices]. It may be missing after an episode's last step, `is_last`.

        Raises EnvironmentFault for a mask that no action can be chosen by.
        """
        if value is None and is_last:
            return np.zeros(sum(self.actions.choices), np.uint8)
        if value is None:
            raise EnvironmentFault(f"returned no action mask: {self.source.value} is missing or None")
        try:
            return as_mask(self.actions, value, is_last=is_last)
        except ValueError as problem:
            raise EnvironmentFault(f"returned {problem} ({self.source.value})") from None


class MaskedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds the environment's action mask to its observations, as a uint8 entry `action_mask` of a Dict.

    An observation that contains no mask becomes {"observation": …, "action_mask": …}, as in PettingZoo.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], source: MaskSource) -> None:
        super().__init__(env)
        self._masks = _Masks(source, env.action_space)
        self._method = env.get_wrapper_attr("action_masks") if source is MaskSource.METHOD else None
        self.observation_space = self._masks.space(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        result: Any = self.env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            return result  # CheckedEnv says what is wrong with it
        observation, info = result
        return self._masked(observation, info, is_last=False), info

    def step(self, action: Any) -> Any:
        result: Any = self.env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            return result
        observation, reward, terminated, truncated, info = result
        is_last = bool(np.any(terminated) or np.any(truncated))
        return self._masked(observation, info, is_last=is_last), reward, terminated, truncated, info

    def _masked(self, observation: Any, info: Any, *, is_last: bool) -> Any:
        if self._method is not None:
            value = self._method()
        else:
            source = info if self._masks.source is MaskSource.INFO else observation
            if not isinstance(source, Mapping):
                return observation
            value = source.get("action_mask")
        return self._masks.joined(observation, self._masks.checked(value, is_last=is_last))


class MaskedVectorEnv(VectorWrapper):
    """Adds the action masks of another package's vector environment, from its observations or infos."""

    def __init__(self, env: VectorEnv, source: MaskSource) -> None:
        super().__init__(env)
        self._masks = _Masks(source, env.single_action_space)
        self.single_observation_space = self._masks.space(env.single_observation_space)
        with preserved_generators():  # batching gives the spaces, which other environments may share, generators
            self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._masked(observation, infos, np.zeros(self.num_envs, dtype=bool)), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        return self._masked(observation, infos, terminated | truncated), reward, terminated, truncated, infos

    def _masked(self, observation: Any, infos: dict[str, Any], is_last: np.ndarray) -> Any:
        source = infos if self._masks.source is MaskSource.INFO else observation
        rows = source.get("action_mask")
        given = source.get("_action_mask", np.ones(self.num_envs, dtype=bool))
        masks = [
            self._masks.checked(rows[i] if rows is not None and given[i] else None, is_last=bool(is_last[i]))
            for i in range(self.num_envs)
        ]
        return self._masks.joined(observation, np.stack(masks))
