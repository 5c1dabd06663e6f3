"""Super Mario Bros., single levels or the whole game, from the package gym-super-mario-bros."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

import gymnasium

from asyncrl.common.validation import within
from asyncrl.envs.contract import Contract
from asyncrl.envs.families import nes
from asyncrl.envs.families.pixels import FrameSkip, PixelOptions, ResizedFrames, frame_fields
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.errors import UsageError, suggestions

__all__ = ["ActionSet", "Mario", "MarioOptions"]

INSTALL = "pip install 'asyncrl[mario]'"
_BUTTONS = ("A", "B", "SELECT", "START", "UP", "DOWN", "LEFT", "RIGHT")
"""Buttons by their bit in the emulator's input, lowest first. START pauses the game, so no action set has it."""
_RIGHT = ("NOOP", "RIGHT", "RIGHT A", "RIGHT B", "RIGHT A B")


class ActionSet(Enum):
    """Action sets of gym-super-mario-bros."""

    RIGHT_ONLY = "right-only"
    """5 actions: to the right, running and jumping"""
    SIMPLE = "simple"
    """7 actions: these, a jump on the spot, and to the left"""
    COMPLEX = "complex"
    """12 actions: these, running and jumping to the left, down and up"""


_MEANINGS = {
    ActionSet.RIGHT_ONLY: _RIGHT,
    ActionSet.SIMPLE: (*_RIGHT, "A", "LEFT"),
    ActionSet.COMPLEX: (*_RIGHT, "A", "LEFT", "LEFT A", "LEFT B", "LEFT A B", "DOWN", "UP"),
}
"""Actions in the package's order."""


@dataclass(frozen=True)
class MarioOptions(PixelOptions):
    """Options of Super Mario Bros."""

    action_set: ActionSet | None = None
    """Super Mario: the available buttons. Default simple."""
    stuck_steps: int | None = None
    """Super Mario: truncate an episode when x_pos has not grown for this many steps. 0: never."""

    def check(self) -> None:
        within(self, 0, math.inf, "stuck_steps")
        super().check()


class Mario(SingleFamily):
    """Every id of the installed version of the package."""

    name = "mario"
    examples = ("SuperMarioBros-1-1-v0", "SuperMarioBros-v0", "SuperMarioBros2-v1")
    shows_pictures = True
    packages = ("gymnasium", "gym-super-mario-bros", "nes-py")
    required = ("screen_size",)
    options = MarioOptions
    unsupported = {"standardize": "its observations are images"}
    keys = {"up": "UP", "down": "DOWN", "left": "LEFT", "right": "RIGHT", "space": "A", "x": "B"}
    keys_help = "Arrows; the space bar jumps, X runs."

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        if registered is not None and "gym_super_mario_bros" not in str(registered.entry_point):
            return False
        return re.match(r"SuperMarioBros[^:]*-v\d+$", env_id) is not None

    def known_ids(self) -> list[str]:
        """Return every id of the package; [] without it."""
        try:
            return sorted(nes.registry())
        except ImportError:
            return []

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        assert isinstance(options, MarioOptions)
        if options.env_backend in (Backend.NATIVE, Backend.ENVPOOL):
            raise UsageError(f"{env_id} has no vector environment; use --env-backend sync or async")
        _check_installed(env_id)
        return self.contract(
            env_id,
            options,
            **frame_fields(options),
            action_set=(options.action_set or ActionSet.SIMPLE).value,
            settings={"stuck_steps": options.stuck_steps or 0, "rules": _rules()},
        )

    def check(self, contract: Contract) -> None:
        super().check(contract)
        names = {action_set.value for action_set in ActionSet}
        if contract.action_set not in names or not isinstance(contract.settings.get("stuck_steps"), int):
            raise UsageError(f"{contract.env} needs an action_set of {', '.join(sorted(names))}, and settings.stuck_steps")

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """Observe the last frame of each step: a maximum of two would erase dark figures before the bright sky."""
        pads = [_pad(meaning) for meaning in self.meanings(contract)]
        makers = nes.makers_of(contract.env, contract.settings.get("kwargs", {}))
        env: gymnasium.Env[Any, Any] = nes.NesGame(makers, pads, "rgb_array" if render else None)
        env = FrameSkip(env, contract.frame_skip)
        if contract.settings["stuck_steps"]:
            env = nes.TruncateWhenStuck(env, contract.settings["stuck_steps"])
        assert contract.screen_size is not None
        return ResizedFrames(env, contract.screen_size, contract.gray)

    def meanings(self, contract: Contract) -> list[str]:
        return list(_MEANINGS[ActionSet(contract.action_set)])

    def measures(self, contract: Contract) -> tuple[str, ...]:
        """Return the furthest position and the number of finished stages."""
        return ("distance", "flags")


def _check_installed(env_id: str) -> None:
    """Raise UsageError for a missing package and for an id that its version lacks."""
    try:
        known = nes.registry()
        importlib.import_module("cv2")
    except ImportError as problem:
        raise UsageError(f"{env_id} needs a package that is not installed ({problem}): {INSTALL}") from None
    if env_id not in known:
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, known)} (asyncrl list envs)")


def _rules() -> str:
    """Return the package's major version: 7 and 9 give different rewards for the same play."""
    return f"gym-super-mario-bros {nes.major_version('gym-super-mario-bros')}"


def _pad(meaning: str) -> int:
    """Return the buttons of an action, one bit each."""
    return sum(1 << bit for bit, button in enumerate(_BUTTONS) if button in meaning.split())
