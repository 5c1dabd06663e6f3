"""Doom: the scenarios that come with the package vizdoom, and the user's own."""

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
"""Frames that Doom shows in a second."""
_OURS = re.compile(r"^Vizdoom[\w-]*-v\d+$")
_WRAPPER = ("max_buttons_pressed", "use_multi_binary_action_space")
"""What --env-kwargs may say to the package's environment; everything else is a setting of the game."""
_OTHERWISE = {
    "frame_skip": "use --frame-skip",
    "screen_format": "use --gray or --no-gray",
    "render_mode": "pictures are made by asyncrl play",
    "treat_episode_timeout_as_truncation": "a timeout is a truncation always",
}
_UNSEEN = {f"{buffer}_enabled": False for buffer in ("depth_buffer", "labels_buffer", "automap_buffer", "audio_buffer")}


@dataclass(frozen=True)
class VizDoomOptions(PixelOptions):
    """Options of Doom."""

    game_variables: bool | None = None
    """VizDoom: observe the scenario's game variables (health, ammunition) beside the screen. Default off."""


class VizDoom(SingleFamily):
    """``Vizdoom…-v1`` as the package registers them, and ``path/to/scenario.cfg`` with its .wad beside it.

    What is seen is the screen, and with `game_variables` the numbers that the scenario tells.
    """

    name = "vizdoom"
    shows_pictures = True
    options = VizDoomOptions
    unsupported = {"standardize": "its observations are images"}
    keys = {"up": "FORWARD", "down": "BACKWARD", "left": "LEFT", "right": "RIGHT", "space": "ATTACK"}
    keys_help = "Arrows and the space bar."
    packages = ("vizdoom", "gymnasium")
    required = ("screen_size",)

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        return env_id.endswith(".cfg") or (bool(_OURS.match(env_id)) and (registered is None or _is_ours(registered)))

    def known_ids(self) -> list[str]:
        """Every id whose game is there (Doom's own is not free); [] without vizdoom."""
        try:
            registry = _registry()
        except UsageError:
            return []
        games = {config: not _missing(_game(config, {})) for config in {_config(spec) for spec in registry.values()}}
        return sorted(name for name, spec in registry.items() if games[_config(spec)])

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
        variables, size = "game_variables" in contract.settings, contract.screen_size
        assert size is not None
        env = _Played(game, scenario.timeout, variables)
        return ResizedFrames(env, size, contract.gray, "screen" if variables else None)

    def meanings(self, contract: Contract) -> list[str]:
        """The buttons that each action presses, as MOVE_LEFT+ATTACK."""
        with contextlib.closing(self.make_one(contract, render=False)) as env:
            played: Any = env.unwrapped
            buttons = [button.name for button in played.game.get_available_buttons()]
            pressed = getattr(played, "button_map", np.eye(len(buttons)))
        return ["+".join(b for b, down in zip(buttons, action, strict=True) if down) or "NOOP" for action in pressed]


class _Played(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A game whose observations are its screen, or screen and variables, the last one of an episode included.

    The game itself shows nothing once an episode is over. So its timeout is switched off and kept here, to the tic: the
    step that reaches it is truncated and seen. After a death what was seen before is seen again.
    """

    def __init__(self, env: Any, timeout: int, variables: bool) -> None:
        """`env`: the package's, in which a step is as many tics as its `frame_skip` says."""
        super().__init__(env)
        self._game, self._timeout, self._variables, self._skip = env, timeout, variables, env.frame_skip
        screen = env.observation_space["screen"]
        told = {"gamevariables": env.observation_space["gamevariables"]} if variables else {}
        self.observation_space = Dict({"screen": screen, **told}) if variables else screen
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": TICS / self._skip}
        self._home: _Home | None = None
        self._tics, self._seen = 0, dict[str, np.ndarray]()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._home is None and os.name == "posix":
            self._home = _Home(self._game.game)
        self._tics = 0
        self._seen, info = self.env.reset(seed=seed, options=options)
        return self._observation(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._game.frame_skip = min(self._skip, self._timeout - self._tics) if self._timeout else self._skip
        self._tics += self._game.frame_skip
        seen, reward, terminated, _, info = self.env.step(action)
        if not terminated:
            self._seen = seen
        return self._observation(), reward, terminated, not terminated and self._tics == self._timeout, info

    def render(self) -> Any:
        return self._seen["screen"]

    def close(self) -> None:
        super().close()
        if self._home is not None:
            self._home.remove()
            self._home = None

    def _observation(self) -> Any:
        screen = self._seen["screen"]
        return {"screen": screen, "gamevariables": self._seen["gamevariables"]} if self._variables else screen


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

_CLEAR_UP = """
cat >/dev/null
cd "$1" && kill -9 $(cat pid)
for instance in $(cat instances); do rm -f /dev/shm/ViZDoom*"$instance"; done
cd / && rm -rf "$1"
"""
"""Waits until the process at the other end of its standard input has ended; it does nothing if the folder is gone."""


class _Home:
    """A folder where a game writes its settings. A process of its own clears up if this one is killed."""

    def __init__(self, game: Any) -> None:
        """Have `game` begin there and ignore Ctrl-C.

        Nothing is done where temporary files may not be executed: it writes into the current folder then.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="asyncrl-vizdoom-")
        self._clears_up = subprocess.Popen(
            ["/bin/sh", "-c", _CLEAR_UP, "clear-up", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends with this process must not end it
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
        """Remove it; the game has ended."""
        self._folder.cleanup()
        assert self._clears_up.stdin is not None
        self._clears_up.stdin.close()
        self._clears_up.wait()


class _Scenario(NamedTuple):
    """What an id means to the package."""

    config: str
    """Path of its .cfg."""
    arguments: dict[str, Any]
    """What the package's environment is given besides."""
    timeout: int
    """Tics after which an episode is truncated; 0: never."""
    variables: list[str]
    """The numbers that it tells."""
    action_set: str


def _scenario(env_id: str, kwargs: dict[str, Any]) -> _Scenario:
    """Raises UsageError for an id or for settings that are not to be had."""
    for name, remedy in _OTHERWISE.items():
        if name in kwargs:
            raise UsageError(f"--env-kwargs cannot set {name!r} of {env_id}: {remedy}")
    registry = _registry()
    if env_id.endswith(".cfg"):
        config, own = os.path.abspath(env_id), {"max_buttons_pressed": 1}
        if not os.path.isfile(config):
            raise UsageError(f"there is no scenario {env_id!r} (a .cfg file, with its .wad beside it)")
    elif env_id in registry:
        config, own = _config(registry[env_id]), dict(registry[env_id].kwargs)
        own.pop("scenario_config_file")
    else:
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, registry)} (asyncrl list envs)")
    own |= kwargs
    game = _game(config, {name: value for name, value in own.items() if name not in _WRAPPER}, env_id)
    if missing := _missing(game):
        raise UsageError(f"{env_id} needs a file that is not there: {missing}")
    package = import_module("vizdoom")
    buttons = [button.name for button in game.get_available_buttons() if not package.is_delta_button(button)]
    deltas = len(game.get_available_buttons()) - len(buttons)
    if not buttons:
        raise UsageError(
            f"{env_id} has no buttons that are pressed or not, which asyncrl needs: add some to available_buttons"
        )
    most = min(int(own.get("max_buttons_pressed", 0)), len(buttons))
    together = {0: "any together", 1: "one or none"}.get(most, f"up to {most} together")
    fixed = {"available_buttons": buttons, "episode_timeout": 0, "screen_format": "RGB24"}
    return _Scenario(
        config,
        own | _UNSEEN | fixed,
        game.get_episode_timeout(),
        [variable.name for variable in game.get_available_game_variables()],
        f"{together} of {', '.join(buttons)}" + (f"; {deltas} that turn by an amount left out" if deltas else ""),
    )


def _game(config: str, settings: dict[str, Any], env_id: str = "") -> Any:
    """A game that is not started. Raises UsageError for settings that it does not know."""
    game = import_module("vizdoom").DoomGame()
    try:
        game.load_config(config)
        understood = not settings or game.set_config(settings)
    except Exception as problem:  # of types of the package's own
        raise UsageError(f"{env_id} with {config}: {problem}") from None
    if not understood:
        raise UsageError(f"{env_id}: not all of --env-kwargs {settings} are settings that a .cfg of ViZDoom may have")
    return game


def _missing(game: Any) -> str | None:
    """The first file of data that it names and that is not there; the package brings some games itself."""
    brought = _package() / os.path.basename(game.get_doom_game_path())
    paths = [game.get_doom_scenario_path()] + [game.get_doom_game_path()] * (not brought.is_file())
    return next((path for path in paths if path and not os.path.isfile(path)), None)


def _package() -> Path:
    return Path(import_module("vizdoom").__file__ or "").parent


def _config(spec: Any) -> str:
    """Path of the .cfg that an id stands for."""
    return os.path.join(str(import_module("vizdoom").scenarios_path), spec.kwargs["scenario_config_file"])


def _registry() -> dict[str, Any]:
    """Gymnasium's specs of the package's ids. Raises UsageError where it is not installed."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import_module("vizdoom.gymnasium_wrapper")
    except ImportError:
        raise UsageError(f"Doom needs the package vizdoom: {INSTALL}") from None
    return {name: spec for name, spec in gymnasium.registry.items() if _is_ours(spec)}


def _is_ours(spec: Any) -> bool:
    return "vizdoom.gymnasium_wrapper" in str(spec.entry_point)
