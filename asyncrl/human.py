"""A person at the keyboard, as somebody who plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncrl.envs import Contract, View
from asyncrl.errors import UsageError
from asyncrl.video import Window

__all__ = ["Person", "keys_help"]

_ARROWS = ("UP", "DOWN", "LEFT", "RIGHT")
_WORDS = {"FORWARD": "UP", "BACKWARD": "DOWN", "ATTACK": "FIRE"}
"""Doom's for the same."""


class Person:
    """Sees every picture in a window and answers with keys, as `datasets.Player`.

    Actions with meanings (Atari's, Doom's) are done by the arrows and the space bar. Others have digits, and the left and
    right arrows for the first and the last; while nothing is pressed the middle one is done, or of two the one before.
    """

    def __init__(self, view: View, window: Window, meanings: Sequence[str], count: int | None) -> None:
        if count is None:
            raise UsageError("a person can play environments with one discrete choice per action")
        self._view, self._window, self._count = view, window, count
        self._meanings = {_parts(name): action for action, name in reversed(list(enumerate(meanings)))}
        self._before = 0

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        self._window.show(self._view.picture())
        return np.array([self._chosen(self._window.pressed)])

    def _chosen(self, pressed: set[str]) -> int:
        if self._meanings:
            held = frozenset(_ARROWS) & {key.upper() for key in pressed} | ({"FIRE"} if "space" in pressed else set())
            return self._meanings.get(held, self._meanings.get(frozenset(), 0))
        digits = [int(key) for key in pressed if key.isdigit() and int(key) < self._count]
        if digits:
            self._before = digits[0]
        elif "left" in pressed or "right" in pressed:
            self._before = 0 if "left" in pressed else self._count - 1
        elif self._count > 2:
            return self._count // 2
        return self._before


def keys_help(contract: Contract) -> str:
    """Which keys there are."""
    if contract.family in ("atari", "vizdoom"):
        return "Arrows and the space bar."
    last = (contract.spaces.actions.count or 1) - 1
    return f"Digits 0 … {last}; the left arrow is 0, the right one {last}."


def _parts(meaning: str) -> frozenset[str]:
    """NOOP → {}, UPRIGHTFIRE → {UP, RIGHT, FIRE}, MOVE_LEFT+ATTACK → {LEFT, FIRE}."""
    words = {word: word for word in (*_ARROWS, "FIRE")} | _WORDS
    return frozenset(part for word, part in words.items() if word in meaning)
