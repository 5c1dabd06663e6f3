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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.common.packages import version_of
from asyncrl.envs.contract import Contract
from asyncrl.envs.families.pixels import StackOptions
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.seeding import each_seed, unpredictable_seeds
from asyncrl.envs.space_reading import spaces_of
from asyncrl.errors import UsageError, suggestions

__all__ = ["EnvPool", "Pool"]

_PROCGEN = re.compile(
    r"^(Bigfish|Bossfight|Caveflyer|Chaser|Climber|Coinrun|Dodgeball|Fruitbot|Heist|Jumper|Leaper|Maze|Miner|Ninja"
    r"|Plunder|Starpilot)(Easy|Hard|Extreme|Memory|Exploration)-v0$"
)
_RESERVED_SETTINGS = frozenset(
    {
        "num_envs",
        "batch_size",
        "num_threads",
        "max_num_players",
        "thread_affinity_offset",
        "base_path",
        "seed",
        "env_seed",
        "gym_reset_return_info",
        "max_episode_steps",
    }
)
"""Settings that --env-kwargs may not change."""
_INTERNAL_INFOS = frozenset({"env_id", "players", "elapsed_step"})
_WITHOUT_PICTURES = ("envpool.gfootball", "envpool.mujoco", "envpool.toy_text")
"""Modules that cannot draw. MuJoCo's would crash the process on machines without OpenGL."""
_FRAMES_PER_SECOND = {"envpool.procgen": 15, "envpool.classic_control": 50, "envpool.box2d": 50, "envpool.minigrid": 10}
_UNLIMITED = 2**31 - 1
_lock = threading.Lock()


class EnvPool(Family):
    """Ids that only EnvPool has and, with ``--env-backend envpool``, ids that Gymnasium's registry has too."""

    name = "envpool"
    examples = ("BigfishEasy-v0", "CoinrunEasy-v0", "StarpilotEasy-v0")
    has_threads = True
    options: ClassVar[type[EnvOptions]] = StackOptions

    def claims(self, env_id: str) -> bool:
        if env_id in gymnasium.registry or ":" in env_id:
            return False
        return _PROCGEN.match(env_id) is not None or env_id in _tasks()

    def known_ids(self) -> list[str]:
        """Return every id that Gymnasium's registry lacks; [] without envpool."""
        return sorted(name for name, (module, *_) in _tasks().items() if module != "envpool.atari" and self.claims(name))

    def task(self, env_id: str) -> str:
        """Return EnvPool's name of an id. Raises UsageError for ids that EnvPool lacks, and for Atari."""
        if not _tasks():
            raise UsageError(
                f"{env_id} needs a package that is not installed: pip install 'asyncrl[{self._extra(env_id)}]'"
            )
        if env_id not in _tasks():
            raise UsageError(f"--env-backend envpool: EnvPool has no environment {env_id!r}{suggestions(env_id, _tasks())}")
        if _module(env_id) == "envpool.atari":
            raise UsageError(f"{env_id} is an Atari game, which ale-py steps as fast; use ALE/{env_id}")
        return env_id

    def extras(self, contract: Contract) -> list[str]:
        return [self._extra(contract.env)]

    def _extra(self, env_id: str) -> str:
        return "procgen" if _PROCGEN.match(env_id) else self.name

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
            versions={"envpool": version_of("envpool"), "gymnasium": version_of("gymnasium")},
        )

    default_stack = 1
    """Default of `frame_stack`."""

    def is_batched(self, contract: Contract) -> bool:
        return True

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        task = _Task(self.task(contract.env), contract.settings.get("kwargs", {}), contract.episode_cap)
        if render and task.module.startswith(_WITHOUT_PICTURES):
            raise UsageError(f"{contract.env} cannot be drawn: EnvPool has no pictures of it")
        return Pool(task, num_envs, threads, render=render)


class _Task:
    """One of EnvPool's environments with its settings."""

    def __init__(self, name: str, kwargs: Mapping[str, Any], cap: int | None) -> None:
        self.name = name
        self.module = _module(name)
        self.settings = dict(kwargs) if cap is None else {**kwargs, "max_episode_steps": cap}
        _check_kwargs(name, kwargs)
        with _translate_errors(name), _quietly():
            spec = _make_spec(name, **self.settings)
            observation, action = spec.gymnasium_observation_space, spec.gymnasium_action_space
        if spec.config.max_num_players > 1:
            raise UsageError(f"{name} is for {spec.config.max_num_players} players; asyncrl trains one agent")
        cap = spec.config.max_episode_steps
        self.cap: int | None = None if cap == _UNLIMITED else cap
        self.frame_skip = int(getattr(spec.config, "frame_skip", 1))
        self.observation_space = _without_mission(observation) if self.module == "envpool.minigrid" else observation
        self.action_space = _as_choices(action)

    def make(self, seeds: Sequence[int], threads: int, *, render: bool) -> Any:
        import envpool

        settings: dict[str, Any] = {**self.settings, **({"render_mode": "rgb_array"} if render else {})}
        with _translate_errors(self.name), _quietly():
            threads = min(threads, len(seeds))
            pool = envpool.make_gymnasium(self.name, num_envs=len(seeds), num_threads=threads, seed=list(seeds), **settings)
            _ = pool.observation_space, pool.action_space  # both are made on first use, with warnings
        return pool


class Pool(VectorEnv):
    """EnvPool's environments behind Gymnasium's vector API, with next-step autoreset.

    EnvPool takes seeds only when it makes environments, so a reset with seeds makes new ones. An environment's episodes
    are a function of its seed and its actions, not of its index or of the number of threads.
    """

    def __init__(self, task: _Task, num_envs: int, threads: int, *, render: bool = False) -> None:
        self.num_envs = num_envs
        self._task = task
        self._threads = threads
        self._draws = render
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = "rgb_array" if render else None
        fps = _FRAMES_PER_SECOND.get(task.module, 30)
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": ["rgb_array"], "render_fps": fps}
        self._pool: Any = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; `seed` is one per environment, or an int for the first one, which the others count on."""
        if seed is not None or self._pool is None:
            self._pool = None  # the old environments are freed before new ones are made
            self._pool = self._task.make(self._seeds(seed), self._threads, render=self._draws)
        observation, infos = self._pool.reset()
        return self._known_parts(observation), _public(infos)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self._pool.step(np.asarray(actions))
        return self._known_parts(observation), reward, terminated, truncated, _public(infos)

    def render(self) -> tuple[np.ndarray, ...]:
        try:
            return tuple(self._pool.render(np.arange(self.num_envs, dtype=np.int32)))
        except RuntimeError as problem:
            raise UsageError(f"{self._task.name} cannot be drawn: {problem}") from None

    def close_extras(self, **kwargs: Any) -> None:
        self._pool = None

    def _seeds(self, seed: Any) -> list[int]:
        return each_seed(seed, self.num_envs) or unpredictable_seeds(self.num_envs)

    def _known_parts(self, observation: Any) -> Any:
        if not isinstance(self.single_observation_space, spaces.Dict):
            return observation
        return {name: observation[name] for name in self.single_observation_space.spaces}


def _public(infos: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rows for name, rows in infos.items() if name not in _INTERNAL_INFOS}


def _without_mission(observation: spaces.Dict) -> spaces.Dict:
    """Leave out MiniGrid's mission, which is a text."""
    return spaces.Dict({name: space for name, space in observation.spaces.items() if name != "mission"})


def _as_choices(action: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Turn a Box of integers into choices."""
    if not isinstance(action, spaces.Box) or np.dtype(action.dtype).kind not in "iu":
        return action
    return spaces.MultiDiscrete(action.high.astype(np.int64) - action.low + 1, start=action.low.astype(np.int64))


def _check_kwargs(name: str, kwargs: Mapping[str, Any]) -> None:
    """Raise UsageError for an unknown setting or a value of the wrong type."""
    if not kwargs:
        return
    with _translate_errors(name):
        own = _make_spec(name)
    defaults = {k: v for k, v in zip(own._config_keys, own._config_values, strict=True) if k not in _RESERVED_SETTINGS}
    for key, value in kwargs.items():
        if key not in defaults:
            raise UsageError(f"--env-kwargs: {name} has no setting {key!r}{suggestions(key, defaults)}")
        kind = type(defaults[key])
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise UsageError(
                f"--env-kwargs: {key!r} of {name} must be {kind.__name__}, such as {defaults[key]!r}, not {value!r}"
            )


def _make_spec(name: str, **settings: Any) -> Any:
    import envpool

    return envpool.make_spec(name, **settings)


def _module(name: str) -> str:
    return str(_tasks()[name][0])


@functools.cache
def _tasks() -> Mapping[str, tuple[str, str, dict[str, Any]]]:
    """Return EnvPool's environments by name; {} without envpool."""
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
    """Load Qt 5 from the package PyQt5-Qt5: Procgen needs it when envpool is imported, and the system may lack it."""
    if not sys.platform.startswith("linux"):
        return
    found = importlib.util.find_spec("PyQt5")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in ("libQt5Core.so.5", "libQt5Gui.so.5"):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(folder, "Qt5", "lib", library)))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress warnings on bounds that do not fit float32, and those of the packages that envpool imports."""
    with _lock, hidden_warnings():
        yield


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    """Turn the exceptions of EnvPool's constructors into UsageError."""
    try:
        yield
    except ImportError as problem:
        text = str(problem)
        if "Qt" in text:
            text = "Procgen needs Qt 5: pip install 'asyncrl[procgen]', and the system's libGL and GLib"
        raise UsageError(f"{name} cannot be made: {text}") from None
    except (TypeError, ValueError, RuntimeError, AssertionError) as problem:
        raise UsageError(f"{name} cannot be made with these settings: {problem}") from None
