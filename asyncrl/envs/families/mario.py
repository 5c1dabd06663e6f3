"""Super Mario Bros., its levels one by one or the whole game, by the package gym-super-mario-bros."""

from __future__ import annotations

import importlib
import re
from typing import Any

import gymnasium

from asyncrl.envs.contract import Contract
from asyncrl.envs.families import nes
from asyncrl.envs.families.pixels import FrameSkip, ResizedFrames
from asyncrl.envs.options import ActionSet, Backend, EnvOptions
from asyncrl.envs.single import SingleFamily
from asyncrl.envs.spaces import SMALLEST_IMAGE
from asyncrl.errors import UsageError, suggestions

__all__ = ["Mario"]

INSTALL = "pip install 'asyncrl[mario]'"
_BUTTONS = ("A", "B", "SELECT", "START", "UP", "DOWN", "LEFT", "RIGHT")
"""As the bits of a pad have them, from the lowest on. START pauses the game, so no action set has it."""
_RIGHT = ("NOOP", "RIGHT", "RIGHT A", "RIGHT B", "RIGHT A B")
_MEANINGS = {
    ActionSet.RIGHT_ONLY: _RIGHT,
    ActionSet.SIMPLE: (*_RIGHT, "A", "LEFT"),
    ActionSet.COMPLEX: (*_RIGHT, "A", "LEFT", "LEFT A", "LEFT B", "LEFT A B", "DOWN", "UP"),
}
"""The package's own sets, in its order."""


class Mario(SingleFamily):
    """Every id that the installed version of the package has."""

    name = "mario"
    shows_pictures = True
    packages = ("gymnasium", "gym-super-mario-bros", "nes-py")
    needs = ("screen_size",)
    options = frozenset(
        {
            *("env_kwargs", "final_reward", "episode_steps", "frame_skip", "frame_stack", "screen_size", "gray"),
            *("action_set", "stuck_steps"),
        }
    )

    def claims(self, env_id: str) -> bool:
        registered = gymnasium.registry.get(env_id)
        if registered is not None and "gym_super_mario_bros" not in str(registered.entry_point):
            return False
        return re.match(r"SuperMarioBros[^:]*-v\d+$", env_id) is not None

    def known_ids(self) -> list[str]:
        """Every id of the package; [] without it."""
        try:
            return sorted(nes.registry())
        except ImportError:
            return []

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        options.reject_unsupported(self.options, env_id)
        if options.env_backend in (Backend.NATIVE, Backend.ENVPOOL):
            raise UsageError(f"{env_id} has no vector environment of its own; use --env-backend sync or async.")
        _check_installed(env_id)
        skip, size = _at_least(1, "frame_skip", options, 4), _at_least(SMALLEST_IMAGE, "screen_size", options, 84)
        stuck = _at_least(0, "stuck_steps", options, 0)
        return self.contract(
            env_id,
            options,
            frame_skip=skip,
            frame_stack=_at_least(1, "frame_stack", options, 4),
            screen_size=size,
            gray=options.gray is not False,
            action_set=(options.action_set or ActionSet.SIMPLE).value,
            settings={"stuck_steps": stuck, "rules": _rules()},
        )

    def check(self, contract: Contract) -> None:
        super().check(contract)
        sets = {action_set.value for action_set in ActionSet}
        if contract.action_set not in sets or not isinstance(contract.settings.get("stuck_steps"), int):
            raise UsageError(f"{contract.env} needs an action_set of {', '.join(sorted(sets))}, and settings.stuck_steps")

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        """Shows the last frame of each step: the maximum of two would erase what is dark before the bright sky."""
        pads = [_pad(meaning) for meaning in self.meanings(contract)]
        kwargs = contract.settings.get("kwargs", {})
        env: gymnasium.Env[Any, Any] = nes.NesGame(
            nes.makers_of(contract.env, kwargs), pads, "rgb_array" if render else None
        )
        env = FrameSkip(env, contract.frame_skip)
        if contract.settings["stuck_steps"]:
            env = nes.TruncateWhenStuck(env, contract.settings["stuck_steps"])
        assert contract.screen_size is not None
        return ResizedFrames(env, contract.screen_size, contract.gray)

    def meanings(self, contract: Contract) -> list[str]:
        return list(_MEANINGS[ActionSet(contract.action_set)])

    def measures(self, contract: Contract) -> tuple[str, ...]:
        """How far Mario came, and how many stages he finished."""
        return ("distance", "flags")


def _check_installed(env_id: str) -> None:
    """Raise UsageError for a package that is missing and for an id that its version has not."""
    try:
        known = nes.registry()
        importlib.import_module("cv2")
    except ImportError as problem:
        raise UsageError(f"{env_id} needs a package that is not installed ({problem}): {INSTALL}") from None
    if env_id not in known:
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, known)} (asyncrl list envs)")


def _rules() -> str:
    """Versions 7 and 9 give other rewards for the same play."""
    return f"gym-super-mario-bros {nes.major_version('gym-super-mario-bros')}"


def _at_least(least: int, name: str, options: EnvOptions, default: int) -> int:
    """What was asked for, or the default. Raises UsageError for too little."""
    asked: int | None = getattr(options, name)
    if asked is not None and asked < least:
        raise UsageError(f"--{name.replace('_', '-')} must be {least} or more, not {asked}")
    return default if asked is None else asked


def _pad(meaning: str) -> int:
    """The buttons of an action, a bit for each."""
    return sum(1 << bit for bit, button in enumerate(_BUTTONS) if button in meaning.split())
