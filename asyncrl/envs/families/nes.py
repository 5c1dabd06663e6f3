"""Super Mario Bros. behind Gymnasium's API. Its emulator `nes-py` has the API of the old `gym` in version 8."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.common.packages import version_of

__all__ = ["NesGame", "TruncateWhenStuck", "major_version", "makers_of", "registry"]

SCREEN = (240, 256)
"""Height and width in pixels."""
_STAGES = tuple(f"{world}-{stage}" for world in range(1, 9) for stage in range(1, 5))
_INFOS = ("coins", "flag_get", "life", "score", "stage", "status", "time", "world", "x_pos", "y_pos")
"""The infos that both versions give."""


@cache
def _package() -> Any:
    """Import the package and make it work with NumPy 2. Raises ImportError."""
    with hidden_warnings(), contextlib.redirect_stderr(io.StringIO()):  # `gym` prints a farewell
        package = importlib.import_module("gym_super_mario_bros")
    if major_version("nes-py") < 9:
        _compute_with_integers()
    return package


def _compute_with_integers() -> None:
    """Give nes-py 8 Python's integers: it computes with NumPy's 8-bit numbers, which overflow since NumPy 2."""
    rom = importlib.import_module("nes_py._rom").ROM
    rom.prg_rom_size = property(lambda self: 16 * int(self.header[4]))
    rom.chr_rom_size = property(lambda self: 8 * int(self.header[5]))
    emulator = importlib.import_module("nes_py").NESEnv
    array_of = emulator._ram_buffer
    emulator._ram_buffer = lambda self: memoryview(array_of(self))


def major_version(package: str) -> int:
    """Return the major version of an installed package."""
    return int(version_of(package).split(".")[0])


def registry() -> dict[str, Any]:
    """Return the specs of the package's ids, from `gym`'s registry or Gymnasium's. Raises ImportError."""
    specs = importlib.import_module(_package().make.__module__).registry
    return {name: spec for name, spec in specs.items() if "gym_super_mario_bros" in str(spec.entry_point)}


def makers_of(env_id: str, kwargs: dict[str, Any]) -> list[Callable[[], Any]]:
    """Return functions that make the stages of an id; each episode draws one. Most ids have one stage."""
    package = _package()
    spec = registry()[env_id]
    name = str(spec.entry_point).rpartition(":")[2]
    settings = {**spec.kwargs, **kwargs}
    if "RandomStages" not in name:
        return [partial(getattr(package, name), **settings)]
    # The package's own class would start all 32 stages at once, which takes seconds per environment.
    targets = [tuple(map(int, stage.split("-"))) for stage in settings.pop("stages", _STAGES)]
    return [partial(package.SuperMarioBrosEnv, target=target, **settings) for target in targets]


class NesGame(gymnasium.Env[np.ndarray, Any]):
    """One game. Action i holds the buttons of `pads[i]`, one bit each, for one frame.

    Observations are views of the screen, which the next step overwrites. Infos add to the package's numbers `distance`,
    the furthest x_pos of the episode, and `flags`, the number of stages finished in it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(self, makers: Sequence[Callable[[], Any]], pads: Sequence[int], render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (*SCREEN, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(pads))
        self.render_mode = render_mode
        self._makers = makers
        self._pads = pads
        self._emulators: dict[int, Any] = {}
        """Emulators by their index in `makers`, each made when first drawn."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(len(self._makers))) if len(self._makers) > 1 else 0
        if drawn not in self._emulators:
            self._emulators[drawn] = self._makers[drawn]()
        self._emulator = self._emulators[drawn]
        self._emulator.reset()
        self._distance = 0
        self._finished = set[tuple[int, int]]()
        return self._emulator.screen, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        screen, reward, terminated, *truncated, info = self._emulator.step(self._pads[int(action)])
        self._distance = max(self._distance, int(info["x_pos"]))
        if info.get("flag_get", info.get("clear")):
            self._finished.add((int(info["world"]), int(info["stage"])))
        infos = {name: info[name] for name in _INFOS if name in info}
        infos |= {"distance": self._distance, "flags": len(self._finished)}
        return screen, float(reward), bool(terminated), any(truncated), infos

    def render(self) -> np.ndarray:
        return np.array(self._emulator.screen)

    def close(self) -> None:
        while self._emulators:  # an emulator raises when it is closed twice
            self._emulators.popitem()[1].close()


class TruncateWhenStuck(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates an episode of `NesGame` when x_pos has not grown for `limit` steps; the next stage starts a new count."""

    def __init__(self, env: gymnasium.Env[Any, Any], limit: int) -> None:
        super().__init__(env)
        self._limit = limit
        self._stage: tuple[int, int] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._stage = None
        self._furthest = 0
        self._stuck = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        stage = info["world"], info["stage"]
        if stage != self._stage or info["x_pos"] > self._furthest:
            self._stage = stage
            self._furthest = info["x_pos"]
            self._stuck = 0
        else:
            self._stuck += 1
        return observation, reward, terminated, truncated or self._stuck >= self._limit, info
