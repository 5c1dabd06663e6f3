"""Doom: the scenarios of the package vizdoom, and custom ones."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Dict

from asyncrl.envs.contract import Contract
from asyncrl.envs.families.pixels import PixelOptions, ResizedFrames, frame_fields
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.errors import UsageError, suggestions

__all__ = ["VizDoom", "VizDoomOptions"]

INSTALL = "pip install 'asyncrl[vizdoom]'"
TICS = 35
"""Doom's frames per second."""
_ID = re.compile(r"^Vizdoom[\w-]*-v\d+$")
_WRAPPER_KWARGS = ("max_buttons_pressed", "use_multi_binary_action_space")
"""Keys of --env-kwargs for the package's environment; all others are settings of the game."""
_REFUSED_KWARGS = {
    "frame_skip": "use --frame-skip",
    "screen_format": "use --gray or --no-gray",
    "render_mode": "asyncrl play draws pictures",
    "treat_episode_timeout_as_truncation": "a timeout is always a truncation",
}
_UNUSED_BUFFERS = {
    f"{buffer}_enabled": False for buffer in ("depth_buffer", "labels_buffer", "automap_buffer", "audio_buffer")
}


@dataclass(frozen=True)
class VizDoomOptions(PixelOptions):
    """Options of Doom."""

    game_variables: bool | None = None
    """VizDoom: observe the scenario's game variables (health, ammunition) beside the screen. Default off."""


class VizDoom(SingleFamily):
    """``Vizdoom…-v1`` of the package, and ``path/to/scenario.cfg`` with its .wad in the same folder.

    Observations are the screen and, with `game_variables`, the scenario's game variables.
    """

    name = "vizdoom"
    examples = ("VizdoomBasic-v1", "VizdoomDefendCenter-v1", "VizdoomHealthGathering-v1")
    shows_pictures = True
    options = VizDoomOptions
    unsupported = {"standardize": "its observations are images"}
    keys = {"up": "FORWARD", "down": "BACKWARD", "left": "LEFT", "right": "RIGHT", "space": "ATTACK"}
    keys_help = "Arrows and the space bar."
    packages = ("vizdoom", "gymnasium")
    required = ("screen_size",)

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        return env_id.endswith(".cfg") or (bool(_ID.match(env_id)) and (registered is None or _is_from_vizdoom(registered)))

    def known_ids(self) -> list[str]:
        """Return every id whose game is installed (Doom's own is not free); [] without vizdoom."""
        try:
            registry = _registry()
        except UsageError:
            return []
        configs = {_config(spec) for spec in registry.values()}
        is_complete = {config: not _missing_file(_game(config, {})) for config in configs}
        return sorted(name for name, spec in registry.items() if is_complete[_config(spec)])

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        assert isinstance(options, VizDoomOptions)
        if options.env_backend not in (Backend.AUTO, Backend.SYNC, Backend.ASYNC):
            given = f"--env-backend {options.env_backend.value}"
            raise UsageError(f"{env_id} has no vector environment, so {given} is not possible; use sync or async")
        frames = frame_fields(options)
        scenario = _scenario(env_id, options.constructor_kwargs())
        if options.game_variables and not scenario.variables:
            raise UsageError(f"--game-variables: {env_id} has none; its scenario lists no available_game_variables")
        timeout = math.ceil(scenario.timeout / frames["frame_skip"])
        return self.contract(
            env_id,
            options,
            **frames,
            episode_cap=min(filter(None, (timeout, options.episode_steps)), default=None),
            action_set=scenario.action_set,
            settings={"game_variables": scenario.variables} if options.game_variables else {},
        )

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        scenario = _scenario(contract.env, contract.settings.get("kwargs", {}))
        package = import_module("vizdoom.gymnasium_wrapper.base_gymnasium_env")
        game = package.VizdoomEnv(scenario.config, contract.frame_skip, **scenario.arguments)
        variables = "game_variables" in contract.settings
        assert contract.screen_size is not None
        env = _DoomGame(game, scenario.timeout, variables)
        return ResizedFrames(env, contract.screen_size, contract.gray, "screen" if variables else None)

    def meanings(self, contract: Contract) -> list[str]:
        """Return the buttons that each action presses, such as MOVE_LEFT+ATTACK."""
        with contextlib.closing(self.make_one(contract, render=False)) as env:
            unwrapped: Any = env.unwrapped
            buttons = [button.name for button in unwrapped.game.get_available_buttons()]
            pressed = getattr(unwrapped, "button_map", np.eye(len(buttons)))
        return ["+".join(b for b, down in zip(buttons, action, strict=True) if down) or "NOOP" for action in pressed]


class _DoomGame(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game whose observations are its screen, or screen and variables, also in the last step of an episode.

    The game itself shows nothing after an episode's end. So its timeout is switched off and counted here, in tics: the
    step that reaches it is truncated and has an observation. After a death the previous observation is repeated.
    """

    def __init__(self, env: Any, timeout: int, variables: bool) -> None:
        """`env` is the package's environment, whose step takes `frame_skip` tics."""
        super().__init__(env)
        self._game = env
        self._timeout = timeout
        self._variables = variables
        self._skip = env.frame_skip
        screen = env.observation_space["screen"]
        both = {"screen": screen, "gamevariables": env.observation_space["gamevariables"]} if variables else {}
        self.observation_space = Dict(both) if variables else screen
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": TICS / self._skip}
        self._folder: _GameFolder | None = None
        self._tics = 0
        self._last: dict[str, np.ndarray] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._folder is None and os.name == "posix":
            self._folder = _GameFolder(self._game.game)
        self._tics = 0
        self._last, info = self.env.reset(seed=seed, options=options)
        return self._observation(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._game.frame_skip = min(self._skip, self._timeout - self._tics) if self._timeout else self._skip
        self._tics += self._game.frame_skip
        observation, reward, terminated, _, info = self.env.step(action)
        if not terminated:
            self._last = observation
        return self._observation(), reward, terminated, not terminated and self._tics == self._timeout, info

    def render(self) -> Any:
        return self._last["screen"]

    def close(self) -> None:
        super().close()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _observation(self) -> Any:
        screen = self._last["screen"]
        return {"screen": screen, "gamevariables": self._last["gamevariables"]} if self._variables else screen


_LAUNCH = """#!/bin/sh
cd {home} || exit 1
trap '' INT
echo $$ > pid
for word; do
    [ "$previous" = +viz_instance_id ] && echo "$word" >> instances
    previous=$word
done
exec {executable} "$@"
"""

_CLEANUP = """
cat >/dev/null
cd "$1" && kill -9 $(cat pid)
for instance in $(cat instances); do rm -f /dev/shm/ViZDoom*"$instance"; done
cd / && rm -rf "$1"
"""
"""Waits for the end of the process at the other end of standard input, then kills the game and removes its folder."""


class _GameFolder:
    """A folder for the game's settings. A separate process removes it, and kills the game, if this process is killed."""

    def __init__(self, game: Any) -> None:
        """Make `game` start in the folder and ignore Ctrl-C.

        Where temporary files may not be executed, the game keeps writing into the current folder.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="asyncrl-vizdoom-")
        self._cleanup = subprocess.Popen(
            ["/bin/sh", "-c", _CLEANUP, "cleanup", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # signals to this process group must not reach it
        )
        executable = game.get_vizdoom_path() or str(_package() / "vizdoom")
        launch = Path(self._folder.name) / "vizdoom"
        quoted = {"home": shlex.quote(self._folder.name), "executable": shlex.quote(os.path.abspath(executable))}
        launch.write_text(_LAUNCH.format(**quoted), encoding="utf-8")
        launch.chmod(0o700)
        game.set_doom_config_path(os.devnull)
        if os.access(launch, os.X_OK):
            game.set_vizdoom_path(str(launch))

    def remove(self) -> None:
        """Remove the folder once the game has ended."""
        self._folder.cleanup()
        assert self._cleanup.stdin is not None
        self._cleanup.stdin.close()
        self._cleanup.wait()


class _Scenario(NamedTuple):
    """The scenario of an id."""

    config: str
    """Path of its .cfg."""
    arguments: dict[str, Any]
    """Arguments of the package's environment."""
    timeout: int
    """Tics after which an episode is truncated; 0: never."""
    variables: list[str]
    """Names of its game variables."""
    action_set: str


def _scenario(env_id: str, kwargs: dict[str, Any]) -> _Scenario:
    """Return the scenario of an id. Raises UsageError for an unknown id, a missing file or bad settings."""
    for name, remedy in _REFUSED_KWARGS.items():
        if name in kwargs:
            raise UsageError(f"--env-kwargs cannot set {name!r} of {env_id}: {remedy}")
    registry = _registry()
    if env_id.endswith(".cfg"):
        config, own = os.path.abspath(env_id), {"max_buttons_pressed": 1}
        if not os.path.isfile(config):
            raise UsageError(f"there is no scenario {env_id!r} (a .cfg file, with its .wad in the same folder)")
    elif env_id in registry:
        config, own = _config(registry[env_id]), dict(registry[env_id].kwargs)
        own.pop("scenario_config_file")
    else:
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, registry)} (asyncrl list envs)")
    own |= kwargs
    game = _game(config, {name: value for name, value in own.items() if name not in _WRAPPER_KWARGS}, env_id)
    if missing := _missing_file(game):
        raise UsageError(f"{env_id} needs a file that is missing: {missing}")
    package = import_module("vizdoom")
    buttons = [button.name for button in game.get_available_buttons() if not package.is_delta_button(button)]
    deltas = len(game.get_available_buttons()) - len(buttons)
    if not buttons:
        raise UsageError(f"{env_id} has no buttons for discrete actions: add some to available_buttons")
    most = min(int(own.get("max_buttons_pressed", 0)), len(buttons))
    together = {0: "any together", 1: "one or none"}.get(most, f"up to {most} together")
    fixed = {"available_buttons": buttons, "episode_timeout": 0, "screen_format": "RGB24"}
    return _Scenario(
        config,
        own | _UNUSED_BUFFERS | fixed,
        game.get_episode_timeout(),
        [variable.name for variable in game.get_available_game_variables()],
        f"{together} of {', '.join(buttons)}" + (f"; {deltas} continuous ones left out" if deltas else ""),
    )


def _game(config: str, settings: dict[str, Any], env_id: str = "") -> Any:
    """Return a game that has not started. Raises UsageError for unknown settings."""
    game = import_module("vizdoom").DoomGame()
    try:
        game.load_config(config)
        is_known = not settings or game.set_config(settings)
    except Exception as problem:  # the package defines its own exceptions
        raise UsageError(f"{env_id} with {config}: {problem}") from None
    if not is_known:
        raise UsageError(f"{env_id}: not all of --env-kwargs {settings} are settings of a ViZDoom .cfg file")
    return game


def _missing_file(game: Any) -> str | None:
    """Return the first data file that is missing. The package contains some games itself."""
    included = _package() / os.path.basename(game.get_doom_game_path())
    paths = [game.get_doom_scenario_path()] + [game.get_doom_game_path()] * (not included.is_file())
    return next((path for path in paths if path and not os.path.isfile(path)), None)


def _package() -> Path:
    return Path(import_module("vizdoom").__file__ or "").parent


def _config(spec: Any) -> str:
    """Return the path of an id's .cfg file."""
    return os.path.join(str(import_module("vizdoom").scenarios_path), spec.kwargs["scenario_config_file"])


def _registry() -> dict[str, Any]:
    """Return Gymnasium's specs of the package's ids. Raises UsageError if it is not installed."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import_module("vizdoom.gymnasium_wrapper")
    except ImportError:
        raise UsageError(f"Doom needs the package vizdoom: {INSTALL}") from None
    return {name: spec for name, spec in gymnasium.registry.items() if _is_from_vizdoom(spec)}


def _is_from_vizdoom(spec: Any) -> bool:
    return "vizdoom.gymnasium_wrapper" in str(spec.entry_point)
