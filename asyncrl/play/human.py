"""A person at the keyboard, as somebody who plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncrl.envs import Contract, View
from asyncrl.errors import UsageError
from asyncrl.play.video import Window

__all__ = ["HumanPlayer", "choices", "keys_help"]

_KEYS = {"up": ("UP",), "down": ("DOWN",), "left": ("LEFT",), "right": ("RIGHT",), "space": ("FIRE", "A"), "x": ("B",)}
"""What each key does, in the words of meanings."""
_WORDS = {"FORWARD": "UP", "BACKWARD": "DOWN", "ATTACK": "FIRE"}
"""Doom's for the same."""


class HumanPlayer:
    """Sees every picture in a window and answers with keys, as `episodes.Player`.

    Actions with meanings are done by the arrows, the space bar (fire, A) and X (B). Others have digits, and the
    left and right arrows for the first and the last; while nothing is pressed the middle one is done, or of two the one
    before.
    """

    def __init__(self, view: View, window: Window, meanings: Sequence[str], count: int) -> None:
        """`meanings` and `count` of the actions; no meanings where they have none."""
        self._view, self._window, self._count = view, window, count
        self._meanings = {_parts(name): action for action, name in reversed(list(enumerate(meanings)))}
        self._parts = frozenset[str]().union(*self._meanings)
        self._before = 0

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        self._window.show(self._view.picture())
        return np.array([self._chosen(self._window.pressed)])

    def _chosen(self, pressed: set[str]) -> int:
        if self._meanings:
            held = frozenset(part for key in pressed for part in _KEYS.get(key, ()))
            return self._meanings.get(held & self._parts, self._meanings.get(frozenset(), 0))
        digits = [int(key) for key in pressed if key.isdigit() and int(key) < self._count]
        if digits:
            self._before = digits[0]
        elif "left" in pressed or "right" in pressed:
            self._before = 0 if "left" in pressed else self._count - 1
        elif self._count > 2:
            return self._count // 2
        return self._before


def choices(contract: Contract) -> int:
    """How many actions a person has. Raises UsageError where an action is more than one choice."""
    actions = contract.spaces.actions
    if actions.count is None:
        raise UsageError(f"a person can play where an action is one choice; in {contract.env} it is {actions}")
    return actions.count


def keys_help(contract: Contract) -> str:
    """Which keys there are. Raises UsageError as `choices`."""
    last = choices(contract) - 1
    if contract.family in ("atari", "vizdoom"):
        return "Arrows and the space bar."
    if contract.family == "mario":
        return "Arrows; the space bar jumps, X runs."
    return f"Digits 0 … {last}; the left arrow is 0, the right one {last}."


def _parts(meaning: str) -> frozenset[str]:
    """NOOP → {}, UPRIGHTFIRE → {UP, RIGHT, FIRE}, MOVE_LEFT+ATTACK → {LEFT, FIRE}, RIGHT A → {RIGHT, A}."""
    words = {word: word for word in ("UP", "DOWN", "LEFT", "RIGHT", "FIRE")} | _WORDS
    return frozenset({part for word, part in words.items() if word in meaning} | {"A", "B"} & {*meaning.split()})
