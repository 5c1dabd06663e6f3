"""EnvPool's environments, stepped by its C++ threads: Procgen, dm_control, highway and many more.

EnvPool resets in the step after an episode's last one and ignores that step's action, which is next-step autoreset. An
episode that ends in the very step of its cap counts as truncated.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from asyncrl.envs.contract import Contract
from asyncrl.envs.families.pixels import StackOptions
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.space_reading import spaces_of
from asyncrl.errors import UsageError, suggestions

__all__ = ["EnvPool", "Pool"]

_PROCGEN = re.compile(
    r"^(Bigfish|Bossfight|Caveflyer|Chaser|Climber|Coinrun|Dodgeball|Fruitbot|Heist|Jumper|Leaper|Maze|Miner|Ninja"
    r"|Plunder|Starpilot)(Easy|Hard|Extreme|Memory|Exploration)-v0$"
)
_OURS = frozenset(
    {
        *("num_envs", "batch_size", "num_threads", "max_num_players", "thread_affinity_offset", "base_path"),
        *("seed", "env_seed", "gym_reset_return_info", "max_episode_steps"),
    }
)
"""What this module says itself when it makes environments."""
_INTERNAL = frozenset({"env_id", "players", "elapsed_step"})
"""What envpool tells of its own bookkeeping."""
_UNDRAWN = ("envpool.gfootball", "envpool.mujoco", "envpool.toy_text")
"""Modules that have no pictures; MuJoCo's take the process down where there is no OpenGL."""
_FRAMES_PER_SECOND = {"envpool.procgen": 15, "envpool.classic_control": 50, "envpool.box2d": 50, "envpool.minigrid": 10}
_UNLIMITED = 2**31 - 1
_one_at_a_time = threading.Lock()


class EnvPool(Family):
    """What envpool has and Gymnasium's registry has not; of what both have, what ``--env-backend envpool`` asks for."""

    name = "envpool"
    has_threads = True
    options: ClassVar[type[EnvOptions]] = StackOptions

    def claims(self, env_id: str) -> bool:
        if env_id in gymnasium.registry or ":" in env_id:
            return False
        return _PROCGEN.match(env_id) is not None or env_id in _tasks()

    def known_ids(self) -> list[str]:
        """Every id that is not Gymnasium's too; [] without envpool."""
        return sorted(name for name, (module, *_) in _tasks().items() if module != "envpool.atari" and self.claims(name))

    def task(self, env_id: str) -> str:
        """What envpool calls it. Raises UsageError for what envpool has not, or what one agent cannot play."""
        if not _tasks():
            extra = "procgen" if _PROCGEN.match(env_id) else "envpool"
            raise UsageError(f"{env_id} needs a package that is not installed: pip install 'asyncrl[{extra}]'")
        if env_id not in _tasks():
            raise UsageError(f"--env-backend envpool: envpool has no environment {env_id!r}{suggestions(env_id, _tasks())}")
        if _module(env_id) == "envpool.atari":
            raise UsageError(f"{env_id} is Atari, which ale-py's C++ threads step as fast; use ALE/{env_id}")
        return env_id

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        if options.env_backend not in (Backend.AUTO, Backend.ENVPOOL):
            given = f"--env-backend {options.env_backend.value}"
            raise UsageError(f"{env_id}: EnvPool's C++ threads step it, so {given} is not possible; use envpool")
        assert isinstance(options, StackOptions)
        stack = options.frame_stack or self.default_stack
        kwargs = options.constructor_kwargs()
        task = _Task(self.task(env_id), kwargs, options.episode_steps)
        own = spaces_of(env_id, task.observation_space, task.action_space)
        return Contract(
            env=env_id,
            family=self.name,
            backend=Backend.ENVPOOL,
            spaces=own.stacked(stack),
            frame_skip=task.frame_skip,
            frame_stack=stack,
            reward_clip=options.reward_clip or None,
            reward_scale=options.reward_scale,
            final_reward=options.final_reward,
            episode_cap=task.cap,
            settings={"kwargs": kwargs} if kwargs else {},
            versions={"envpool": version("envpool"), "gymnasium": version("gymnasium")},
        )

    default_stack = 1
    """Frames that make one observation."""

    def is_batched(self, contract: Contract) -> bool:
        return True

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        task = _Task(self.task(contract.env), contract.settings.get("kwargs", {}), contract.episode_cap)
        if render and task.module.startswith(_UNDRAWN):
            raise UsageError(f"{contract.env} cannot be drawn: envpool has no pictures of it")
        return Pool(task, num_envs, threads, render=render)


class _Task:
    """One of envpool's environments with its settings."""

    def __init__(self, name: str, kwargs: Mapping[str, Any], cap: int | None) -> None:
        self.name, self.module = name, _module(name)
        self.settings = dict(kwargs) if cap is None else {**kwargs, "max_episode_steps": cap}
        _check(name, kwargs)
        with _translate_errors(name), _quietly():
            spec = _make_spec(name, **self.settings)
            observation, action = spec.gymnasium_observation_space, spec.gymnasium_action_space
        if spec.config.max_num_players > 1:
            raise UsageError(f"{name} is for {spec.config.max_num_players} players; asyncrl trains one agent")
        cap = spec.config.max_episode_steps
        self.cap: int | None = None if cap == _UNLIMITED else cap
        self.frame_skip = int(getattr(spec.config, "frame_skip", 1))
        self.observation_space = _without_text(observation) if self.module == "envpool.minigrid" else observation
        self.action_space = _choices(action)

    def make(self, seeds: Sequence[int], threads: int, *, render: bool) -> Any:
        import envpool

        how: dict[str, Any] = {**self.settings, **({"render_mode": "rgb_array"} if render else {})}
        with _translate_errors(self.name), _quietly():
            threads = min(threads, len(seeds))
            pool = envpool.make_gymnasium(self.name, num_envs=len(seeds), num_threads=threads, seed=list(seeds), **how)
            _ = pool.observation_space, pool.action_space  # made when first used, with warnings of Gymnasium's
        return pool


class Pool(VectorEnv):
    """envpool's environments behind Gymnasium's vector API, next-step autoreset.

    envpool takes seeds when it makes environments only, so a reset with seeds makes them anew. An environment's episodes
    are a function of its seed and its actions alone, not of its place or of the number of threads.
    """

    def __init__(self, task: _Task, num_envs: int, threads: int, *, render: bool = False) -> None:
        self.num_envs, self._task, self._threads, self._draws = num_envs, task, threads, render
        self.single_observation_space, self.single_action_space = task.observation_space, task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = "rgb_array" if render else None
        fps = _FRAMES_PER_SECOND.get(task.module, 30)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["rgb_array"], "render_fps": fps}
        self._pool: Any = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin anew; `seed`: one of all (then each has the next), or one per environment."""
        if seed is not None or self._pool is None:
            self._pool = None  # the old ones go before the new ones come
            self._pool = self._task.make(self._seeds(seed), self._threads, render=self._draws)
        observation, infos = self._pool.reset()
        return self._seen(observation), _told(infos)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self._pool.step(np.asarray(actions))
        return self._seen(observation), reward, terminated, truncated, _told(infos)

    def render(self) -> tuple[np.ndarray, ...]:
        try:
            return tuple(self._pool.render(np.arange(self.num_envs, dtype=np.int32)))
        except RuntimeError as problem:
            raise UsageError(f"{self._task.name} cannot be drawn: {problem}") from None

    def close_extras(self, **kwargs: Any) -> None:
        self._pool = None

    def _seeds(self, seed: Any) -> list[int]:
        if seed is None:
            return [int(one) for one in np.random.default_rng().integers(2**31, size=self.num_envs)]
        return [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else [int(one) for one in seed]

    def _seen(self, observation: Any) -> Any:
        if not isinstance(self.single_observation_space, spaces.Dict):
            return observation
        return {name: observation[name] for name in self.single_observation_space.spaces}


def _told(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in infos.items() if name not in _INTERNAL}


def _without_text(observation: spaces.Dict) -> spaces.Dict:
    """MiniGrid's mission is a sentence."""
    return spaces.Dict({name: space for name, space in observation.spaces.items() if name != "mission"})


def _choices(action: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Whole numbers within bounds are choices."""
    if not isinstance(action, spaces.Box) or np.dtype(action.dtype).kind not in "iu":
        return action
    return spaces.MultiDiscrete(action.high.astype(np.int64) - action.low + 1, start=action.low.astype(np.int64))


def _check(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting that is not there or takes something else."""
    if not kwargs:
        return
    with _translate_errors(name):
        own = _make_spec(name)
    defaults = {k: v for k, v in zip(own._config_keys, own._config_values, strict=True) if k not in _OURS}
    for key, value in kwargs.items():
        if key not in defaults:
            raise UsageError(f"--env-kwargs: {name} has no setting {key!r}{suggestions(key, defaults)}")
        kind = type(defaults[key])
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise UsageError(f"--env-kwargs: {key!r} of {name} takes {kind.__name__}, as {defaults[key]!r}, not {value!r}")


def _make_spec(name: str, **settings: Any) -> Any:
    import envpool

    return envpool.make_spec(name, **settings)


def _module(name: str) -> str:
    return str(_tasks()[name][0])


@functools.cache
def _tasks() -> Mapping[str, tuple[str, str, dict[str, Any]]]:
    """Everything that envpool has, by name; {} where it is not installed."""
    if importlib.util.find_spec("envpool") is None:
        return {}
    _load_qt()
    with _quietly():
        import envpool
        from envpool.registration import registry

    assert envpool.make_spec is not None
    tasks: Mapping[str, tuple[str, str, dict[str, Any]]] = registry.specs
    return tasks


def _load_qt() -> None:
    """Procgen wants Qt 5 when envpool is imported; the package PyQt5-Qt5 has it where the system has not."""
    if not sys.platform.startswith("linux"):
        return
    found = importlib.util.find_spec("PyQt5")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in ("libQt5Core.so.5", "libQt5Gui.so.5"):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(folder, "Qt5", "lib", library)))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of bounds that float32 cannot hold, and of the packages that envpool imports."""
    with _one_at_a_time, warnings.catch_warnings(action="ignore"):
        yield


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """What envpool raises when it cannot make an environment, as one sentence."""
    try:
        yield
    except ImportError as problem:
        text = str(problem)
        text = (
            "Procgen needs Qt 5: pip install 'asyncrl[procgen]', and the system's libGL and GLib" if "Qt" in text else text
        )
        raise UsageError(f"{name} cannot be made: {text}") from None
    except (TypeError, ValueError, RuntimeError, AssertionError) as problem:
        raise UsageError(f"{name} cannot be made with these settings: {problem}") from None
