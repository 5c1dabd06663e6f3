"""The vector environment that actors and evaluations step, as its contract describes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from asyncrl.errors import EnvironmentFault, UsageError

__all__ = ["Environments", "Step"]


_ROUNDED = (np.int32, np.uint32, np.int64, np.uint64, np.float64)
"""Dtypes whose numbers float32, the dtype of networks, may round."""


class Step(NamedTuple):
    """The result of one step of B environments."""

    observation: np.ndarray
    """[B, *O]; after an episode's last step, the true last observation of that episode"""
    reward: np.ndarray
    """[B] float32, unclipped"""
    terminated: np.ndarray
    """[B] bool"""
    done: np.ndarray
    """[B] bool: the episode ended, the next step resets"""


class Environments:
    """`num_envs` environments under `contract`. Faults name the environment, the seeds and the step.

    `training=False` leaves out what only helps learning (a return that ends with each life). With `render`,
    `vector.render()` returns pictures. Draws of constructors depend on `seed` alone. `on_step` is called before each step.
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
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        contract.check_trust()
        self.contract = contract
        self.num_envs = num_envs
        self._training = training
        self._on_step = on_step
        import_modules(contract.settings.get("imports", ()))
        self._family = family_named(contract.family)
        self._steps = 0
        self._seeds: list[int] = []
        self.infos: dict[str, Any] = {}
        """Infos of the last reset or step, one array per name."""
        self.raw_observation: np.ndarray = np.zeros(0)
        """[B, *O] the last observations before standardization"""
        self._resets = np.zeros(num_envs, dtype=bool)
        """[B] whether the next step resets, whatever the action"""
        self.vector: VectorEnv = self._family.build(
            contract, num_envs, threads, training=training, render=render, seed=seed
        )
        self._of_family = self.vector
        spaces = contract.spaces
        stack = 1 if self._family.stacks else contract.frame_stack
        unchecked = contract.backend in (Backend.NATIVE, Backend.ENVPOOL)
        if stack > 1 or not spaces.is_as_given:
            self.vector = Observations(self.vector, spaces, stack, check=unchecked)
        self._expected = (num_envs, *spaces.observation_shape), np.dtype(spaces.observation_dtype)
        self._may_round = unchecked and self.vector.single_observation_space.dtype in _ROUNDED

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Reset all environments with one seed each; returns the observations [B, *O]."""
        self._seeds = list(seeds)
        self._steps = 0
        return self._reset(seeds)

    @property
    def can_restart(self) -> bool:
        """Whether some environments can be reset while the others continue."""
        return self.seeds_and_steps is not None

    def restart(self, seeds: Sequence[int], mask: np.ndarray) -> np.ndarray:
        """Reset the environments in `mask`, [B] bool, with their `seeds`; returns the observations of all, [B, *O]."""
        self._seeds = [new if begins else old for old, new, begins in zip(self._seeds, seeds, mask, strict=True)]
        return self._reset(seeds, mask)

    @property
    def seeds_and_steps(self) -> np.ndarray | None:
        """[2, B] int64: each environment's last seed and the steps since; None if `replay_to` cannot restore its state."""
        return self._family.seeds_and_steps(self._of_family)

    def replay_to(self, seeds: Sequence[int], actions: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Restore the states that environments with these seeds reach by these actions, B arrays [L, …].

        All are replayed side by side; those with fewer actions begin later. Returns the observations [B, *O] and
        [B] bool: the episode has ended and the next step resets. None if an environment that is not deterministic now
        forbids one of the actions.
        """
        observation = self.reset(seeds)
        done = np.zeros(self.num_envs, dtype=bool)
        lengths = np.array([len(sequence) for sequence in actions])
        for remaining in range(lengths.max(), -1, -1):
            begins = lengths == remaining
            if begins.any() and remaining < lengths.max():
                observation = self._reset(seeds, begins)
                done = done & ~begins
            if remaining:
                action = np.stack([_action(sequence, remaining) for sequence in actions])
                if self.contract.spaces.is_masked:
                    waits = lengths < remaining
                    action[waits] = self.contract.spaces.first_legal(self.raw_observation[waits])
                    if self._forbidden(action).size:
                        return None
                observation, _, _, done = self.step(action)
        return observation, done

    def step(self, action: np.ndarray) -> Step:
        """Step every environment once. `action` [B, …] has the form of a policy's actions (see `Actions`).

        Raises UsageError for an action that the environment's action mask forbids.
        """
        self._on_step()
        self._steps += 1
        if self.contract.spaces.is_masked:
            self._check_legal(action)
        result = self._guard("step", self.vector.step, self.contract.spaces.actions.for_environment(action))
        observation, reward, terminated, truncated, infos = result
        self.infos = infos
        done = self._family.episode_ended(self.contract, terminated, truncated, infos, self._training)
        reward = np.asarray(reward, dtype=np.float32)
        if not _is_finite(reward):
            raise self._fault(f"returned the reward {reward[~np.isfinite(reward)][0]}")
        self._resets = done
        return Step(self._observation(observation), reward, np.asarray(terminated), done)

    @property
    def restarts(self) -> int:
        """Number of worker processes restarted after failures."""
        return int(getattr(self.vector.unwrapped, "restarted", 0))

    @property
    def measures(self) -> dict[str, np.ndarray]:
        """[B] arrays from the last step's infos that evaluations report beside the return, by name."""
        names = self._family.measures(self.contract)
        return {name: np.asarray(self.infos[name]) for name in names if name in self.infos}

    def close(self) -> None:
        """Close all environments. Raises EnvironmentFault if that fails."""
        self._guard("close", self.vector.close)

    def _reset(self, seeds: Sequence[int], mask: np.ndarray | None = None) -> np.ndarray:
        """Reset the environments in `mask`, or all; `seeds` has one seed per environment."""
        arguments: dict[str, Any] = {} if mask is None else {"options": {"reset_mask": mask}}
        seed = self._family.seeds(self._of_family, seeds)
        observation, self.infos = self._guard("reset", self.vector.reset, seed=seed, **arguments)
        self._resets = np.zeros(self.num_envs, dtype=bool) if mask is None else self._resets & ~mask
        return self._observation(observation)

    def _observation(self, observation: Any) -> np.ndarray:
        shape, dtype = self._expected
        if not isinstance(observation, np.ndarray) or observation.shape != shape:
            found = getattr(observation, "shape", type(observation).__name__)
            raise self._fault(f"returned observations of shape {found}; its space has {shape}")
        if observation.dtype != dtype or self._may_round:
            observation = self._converted(observation, dtype)
        if dtype.kind == "f" and not _is_finite(observation):
            bad = int(np.argwhere(~np.isfinite(observation))[0, 0])
            raise self._fault(f"returned an observation that is not finite (environment {bad} of {self.num_envs})")
        self.raw_observation = observation
        return self.contract.standardized(observation)

    def _check_legal(self, action: np.ndarray) -> None:
        """Raise UsageError for an action that the mask of the last observation forbids."""
        forbidden = self._forbidden(action)
        if forbidden.size:
            chosen = self.contract.spaces.actions.for_environment(action[forbidden[:1]])[0]
            raise UsageError(
                f"{self.contract.env}: the action {chosen} was chosen in step {self._steps} of environment {forbidden[0]}, "
                "where its action mask forbids it; custom algorithms and bots must obey the mask"
            )

    def _forbidden(self, action: np.ndarray) -> np.ndarray:
        """Return the indices of the environments whose last observation's mask forbids their `action`."""
        return np.flatnonzero(~(self.contract.spaces.allows(action, self.raw_observation) | self._resets))

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
        if self.contract.backend is Backend.ASYNC:  # the message names the worker's episode
            return EnvironmentFault(f"{self.contract.env} {what}", trace)
        seeds = ", ".join(map(str, self._seeds[:4])) + (", …" if len(self._seeds) > 4 else "")
        return EnvironmentFault(f"{self.contract.env} {what} (step {self._steps}, seeds {seeds})", trace)


def _is_finite(x: np.ndarray) -> bool:
    """Return whether all numbers are finite. Counting takes half the time of `all`."""
    return int(np.count_nonzero(np.isfinite(x))) == x.size


def _action(actions: np.ndarray, remaining: int) -> np.ndarray:
    """Return the action in [L, …] with `remaining` ones left, itself included; any action before the first."""
    if not len(actions):
        return np.zeros_like(actions, shape=actions.shape[1:])
    return np.asarray(actions[-min(remaining, len(actions))])
