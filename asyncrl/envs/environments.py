"""A vector environment held to its contract: what actors and evaluations step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from asyncrl.common.dtypes import exact
from asyncrl.envs.checked import fault_of
from asyncrl.envs.contract import Contract
from asyncrl.envs.loading import import_modules
from asyncrl.envs.observation_checks import report_rounding
from asyncrl.envs.observations import Observations
from asyncrl.envs.options import Backend
from asyncrl.envs.registry import family_named
from asyncrl.errors import EnvironmentFault

__all__ = ["Environments", "Step"]


_ROUNDED = (np.int32, np.uint32, np.int64, np.uint64, np.float64)
"""Dtypes of numbers that float32, in which networks see them, may round."""


class Step(NamedTuple):
    """What one step of B environments gave."""

    observation: np.ndarray
    """[B, *O]; after an episode's last step, that episode's true last observation"""
    reward: np.ndarray
    """[B] float32, unclipped"""
    terminated: np.ndarray
    """[B] bool"""
    done: np.ndarray
    """[B] bool: the episode ended, the next step resets"""


class Environments:
    """`num_envs` environments as `contract` says. Faults are reported with environment, seed and step.

    `training=False` leaves out what is only for learning (a lost life that ends the return);
    with `render`, `vector.render()` gives pictures. What their constructors draw follows from `seed`.
    """

    def __init__(
        self,
        contract: Contract,
        num_envs: int,
        threads: int = 1,
        *,
        training: bool = True,
        render: bool = False,
        seed: int = 0,
    ) -> None:
        contract.check_trust()
        self.contract, self.num_envs, self._training = contract, num_envs, training
        import_modules(contract.settings.get("imports", ()))
        self._family = family_named(contract.family)
        self._steps = 0
        self._seeds: list[int] = []
        self.infos: dict[str, Any] = {}
        """What the last reset or step told besides, as vector environments do: an array per name."""
        self.shown: np.ndarray = np.zeros(0)
        """[B, *O] what was seen last, before it was standardized."""
        self.vector: VectorEnv = self._family.build(
            contract, num_envs, threads, training=training, render=render, seed=seed
        )
        spaces, stack = contract.spaces, 1 if self._family.stacks else contract.frame_stack
        unchecked = contract.backend in (Backend.NATIVE, Backend.ENVPOOL)
        if stack > 1 or not spaces.is_as_given:
            self.vector = Observations(self.vector, spaces, stack, check=unchecked)
        self._expected = (num_envs, *spaces.observation_shape), np.dtype(spaces.observation_dtype)
        self._may_round = unchecked and self.vector.single_observation_space.dtype in _ROUNDED

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin anew; one seed per environment. Returns the observations, [B, *O]."""
        self._seeds, self._steps = list(seeds), 0
        return self._reset(seeds)

    @property
    def can_restart(self) -> bool:
        """May some of the environments begin anew while the others go on?"""
        return self.seeds_and_steps is not None

    def restart(self, seeds: Sequence[int], mask: np.ndarray) -> np.ndarray:
        """Begin anew in the environments of `mask` [B]; the seeds of others are not used. Returns all observations."""
        self._seeds = [seed if begins else before for before, seed, begins in zip(self._seeds, seeds, mask, strict=True)]
        return self._reset(seeds, mask)

    @property
    def seeds_and_steps(self) -> np.ndarray | None:
        """[2, B] int64: the seed and the steps since it, by environment; None where `replay_to` cannot restore them."""
        return self._family.seeds_and_steps(self.vector)

    def replay_to(self, seeds: Sequence[int], actions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Come where environments with these seeds are after these actions, B × [L, …]: all are played again, side by
        side, those with fewer actions begin later.

        Returns the observations [B, *O], and [B] bool: the episode is over, the next step resets.
        """
        observation, done = self.reset(seeds), np.zeros(self.num_envs, dtype=bool)
        lengths = np.array([len(played) for played in actions])
        for remaining in range(lengths.max(), -1, -1):
            begins = lengths == remaining
            if begins.any() and remaining < lengths.max():
                observation, done = self._reset(seeds, begins), done & ~begins
            if remaining:
                observation, _, _, done = self.step(np.stack([_action(own, remaining) for own in actions]))
        return observation, done

    def step(self, action: np.ndarray) -> Step:
        """Step every environment once; `action` [B, …] is a policy's (`Actions`)."""
        self._steps += 1
        result = self._guard("step", self.vector.step, self.contract.spaces.actions.for_environment(action))
        observation, reward, terminated, truncated, infos = result
        self.infos = infos
        done = self._family.episode_ended(self.contract, terminated, truncated, infos, self._training)
        reward = np.asarray(reward, dtype=np.float32)
        if not _is_finite(reward):
            raise self._fault(f"returned the reward {reward[~np.isfinite(reward)][0]}")
        return Step(self._observation(observation), reward, np.asarray(terminated), done)

    @property
    def restarts(self) -> int:
        """Worker processes that failed and were started again."""
        return int(getattr(self.vector.unwrapped, "restarted", 0))

    @property
    def measures(self) -> dict[str, np.ndarray]:
        """[B] for each number, besides the rewards, that says how the episodes stand; of the last step."""
        names = self._family.measures(self.contract)
        return {name: np.asarray(self.infos[name]) for name in names if name in self.infos}

    def close(self) -> None:
        self._guard("close", self.vector.close)

    def _reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> np.ndarray:
        """Begin anew in the environments of `mask` [B], in all without it; `seeds` are one per environment."""
        how: dict[str, Any] = {} if mask is None else {"options": {"reset_mask": mask}}
        own = self._family.seeds(self.vector, seeds)
        observation, self.infos = self._guard("reset", self.vector.reset, seed=own, **how)
        return self._observation(observation)

    def _observation(self, observation: Any) -> np.ndarray:
        shape, dtype = self._expected
        if not isinstance(observation, np.ndarray) or observation.shape != shape:
            got = getattr(observation, "shape", type(observation).__name__)
            raise self._fault(f"returned observations of shape {got}, its space says {shape}")
        if observation.dtype != dtype or self._may_round:
            observation = self._converted(observation, dtype)
        if dtype.kind == "f" and not _is_finite(observation):
            bad = int(np.argwhere(~np.isfinite(observation))[0, 0])
            raise self._fault(f"returned an observation that is not finite (environment {bad} of {self.num_envs})")
        self.shown = observation
        return self.contract.standardized(observation)

    def _converted(self, observation: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        if self._may_round and report_rounding(self.contract.env, observation):
            self._may_round = False
        try:
            return exact(observation, dtype)
        except ValueError as problem:
            raise self._fault(f"returned an observation that {problem}") from None

    def _guard(self, verb: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except BaseException as problem:
            fault = fault_of(problem, verb)
            raise self._fault(str(fault), fault.traceback) from problem

    def _fault(self, what: str, trace: str = "") -> EnvironmentFault:
        if self.contract.backend is Backend.ASYNC:  # the worker's episode was named
            return EnvironmentFault(f"{self.contract.env} {what}", trace)
        seeds = ", ".join(map(str, self._seeds[:4])) + (", …" if len(self._seeds) > 4 else "")
        return EnvironmentFault(f"{self.contract.env} {what} (step {self._steps}, seeds {seeds})", trace)


def _is_finite(x: np.ndarray) -> bool:
    """Every number of x is. Counting them takes half the time of `all`."""
    return int(np.count_nonzero(np.isfinite(x))) == x.size


def _action(actions: np.ndarray, remaining: int) -> np.ndarray:
    """Of an environment's actions [L, …] the one with `remaining` to go; any where it has not begun yet."""
    nothing = np.zeros_like(actions, shape=actions.shape[1:])
    return np.asarray(actions[-min(remaining, len(actions))]) if len(actions) else nothing
