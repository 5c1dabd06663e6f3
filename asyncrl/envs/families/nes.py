"""Super Mario Bros. as its package has it, behind Gymnasium's API: `nes-py` 8 speaks that of the old `gym`, 9 our own."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np

__all__ = ["NesGame", "TruncateWhenStuck", "major_version", "makers_of", "registry"]

SCREEN = (240, 256)
"""Height and width in pixels."""
_STAGES = tuple(f"{world}-{stage}" for world in range(1, 9) for stage in range(1, 5))
_TOLD = ("coins", "flag_get", "life", "score", "stage", "status", "time", "world", "x_pos", "y_pos")
"""What both versions tell in an info, and we hand on."""


@cache
def _package() -> Any:
    """The package, able to work with NumPy 2. Raises ImportError."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):  # `gym` says that it is dead
        package = importlib.import_module("gym_super_mario_bros")
    if major_version("nes-py") < 9:
        _compute_with_integers()
    return package


def _compute_with_integers() -> None:
    """nes-py 8 computes with NumPy's 8-bit numbers, which overflow since NumPy 2: give it Python's integers."""
    rom = importlib.import_module("nes_py._rom").ROM
    rom.prg_rom_size = property(lambda self: 16 * int(self.header[4]))
    rom.chr_rom_size = property(lambda self: 8 * int(self.header[5]))
    emulator = importlib.import_module("nes_py").NESEnv
    array_of = emulator._ram_buffer
    emulator._ram_buffer = lambda self: memoryview(array_of(self))


def major_version(package: str) -> int:
    """Of an installed package."""
    return int(version(package).split(".")[0])


def registry() -> dict[str, Any]:
    """The spec of every id of the package, in whichever registry it put them. Raises ImportError."""
    specs = importlib.import_module(_package().make.__module__).registry
    return {name: spec for name, spec in specs.items() if "gym_super_mario_bros" in str(spec.entry_point)}


def makers_of(env_id: str, kwargs: dict[str, Any]) -> list[Callable[[], Any]]:
    """Functions that make the stages of which each episode draws one; most ids have one."""
    package, spec = _package(), registry()[env_id]
    name, own = str(spec.entry_point).rpartition(":")[2], {**spec.kwargs, **kwargs}
    if "RandomStages" not in name:
        return [partial(getattr(package, name), **own)]
    # The package's own class begins all 32 stages at once, which takes seconds for every environment.
    targets = [tuple(map(int, stage.split("-"))) for stage in own.pop("stages", _STAGES)]
    return [partial(package.SuperMarioBrosEnv, target=target, **own) for target in targets]


class NesGame(gymnasium.Env[np.ndarray, Any]):
    """One game; each action holds the buttons of one of `pads` (a bit for each) for a frame.

    The pictures that it returns are views: the next step overwrites them. An info has besides the package's numbers
    `distance`, the furthest x_pos of the episode, and `flags`, the stages that were finished in it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 60}

    def __init__(self, makers: Sequence[Callable[[], Any]], pads: Sequence[int], render_mode: str | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 255, (*SCREEN, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(len(pads))
        self.render_mode = render_mode
        self._makers, self._pads = makers, pads
        self._begun: dict[int, Any] = {}
        """Emulators by their place in `makers`; one begins when it is drawn first."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(len(self._makers))) if len(self._makers) > 1 else 0
        if drawn not in self._begun:
            self._begun[drawn] = self._makers[drawn]()
        self._emulator = self._begun[drawn]
        self._emulator.reset()
        self._distance, self._finished = 0, set[tuple[int, int]]()
        return self._emulator.screen, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        screen, reward, terminated, *truncated, info = self._emulator.step(self._pads[int(action)])
        self._distance = max(self._distance, int(info["x_pos"]))
        if info.get("flag_get", info.get("clear")):
            self._finished.add((int(info["world"]), int(info["stage"])))
        told = {name: info[name] for name in _TOLD if name in info}
        told |= {"distance": self._distance, "flags": len(self._finished)}
        return screen, float(reward), bool(terminated), any(truncated), told

    def render(self) -> np.ndarray:
        return np.array(self._emulator.screen)

    def close(self) -> None:
        while self._begun:  # an emulator that is closed twice raises
            self._begun.popitem()[1].close()


class TruncateWhenStuck(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Truncates an episode of a `NesGame` when x_pos has not grown for `most` steps; another stage begins anew."""

    def __init__(self, env: gymnasium.Env[Any, Any], most: int) -> None:
        super().__init__(env)
        self._most = most
        self._where: tuple[int, int] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._where, self._furthest, self._waited = None, 0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        where = info["world"], info["stage"]
        if where != self._where or info["x_pos"] > self._furthest:
            self._where, self._furthest, self._waited = where, info["x_pos"], 0
        else:
            self._waited += 1
        return observation, reward, terminated, truncated or self._waited >= self._most, info
