"""A human player at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asyncrl.agents.video import Window
from asyncrl.envs import Contract, View
from asyncrl.envs.registry import family_named
from asyncrl.errors import UsageError

__all__ = ["HumanPlayer", "Keyboard", "action_count", "keys_help"]


class Keyboard:
    """Maps pressed keys to an action.

    With `keys`, an action is chosen by the words in its meaning, such as UP and FIRE in UPFIRE. Without them, actions have
    digits, and the left and right arrows are the first and the last action; with no key pressed it is the middle one, or
    of two actions the previous one.
    """

    def __init__(self, count: int, keys: Mapping[str, str], meanings: Sequence[str]) -> None:
        """`keys`: see `Family.keys`; `meanings` has one name per action where there are `keys`."""
        self._count = count
        self._keys = keys
        words = [frozenset(word for word in keys.values() if word in meaning) for meaning in meanings] if keys else []
        self._by_words = {held: action for action, held in reversed(list(enumerate(words)))}
        self._words = frozenset[str]().union(*words)
        self._previous = 0

    def action(self, pressed: set[str]) -> int:
        """Return the action for the keys that are down."""
        if self._by_words:
            held = self._words & {self._keys[key] for key in pressed if key in self._keys}
            return self._by_words.get(held, self._by_words.get(frozenset(), 0))
        digits = [int(key) for key in pressed if key.isdigit() and int(key) < self._count]
        if digits:
            self._previous = digits[0]
        elif "left" in pressed or "right" in pressed:
            self._previous = 0 if "left" in pressed else self._count - 1
        elif self._count > 2:
            return self._count // 2
        return self._previous


class HumanPlayer:
    """Shows every picture in a window and acts by the pressed keys; a `episodes.Player`.

    Where an action mask forbids the keys' action, the first allowed action is taken.
    """

    def __init__(self, view: View, window: Window) -> None:
        """Raises UsageError where an action is more than one choice."""
        self._view = view
        self._window = window
        family = family_named(view.contract.family)
        self._keyboard = Keyboard(action_count(view.contract), family.keys, view.meanings())

    def __call__(self, observation: np.ndarray, info: dict[str, Any], begins: bool) -> np.ndarray:
        self._window.show(self._view.picture())
        pressed, spaces = self._window.pressed, self._view.contract.spaces
        action = np.array([self._keyboard.action(pressed)])
        if spaces.allows(action, observation).all():
            return action
        allowed = spaces.first_legal(observation)
        if pressed:
            print(f"action {action[0]} is not allowed now; {allowed[0]} is taken instead", file=sys.stderr)
        return allowed


def action_count(contract: Contract) -> int:
    """Return the number of actions. Raises UsageError where an action is more than one choice."""
    actions = contract.spaces.actions
    if actions.count is None:
        raise UsageError(f"keyboard play needs a single discrete action, but {contract.env} has {actions.in_words}")
    return actions.count


def keys_help(contract: Contract) -> str:
    """Return one sentence on the keys. Raises UsageError where an action is more than one choice."""
    last = action_count(contract) - 1
    default = f"Digits 0 … {last}; the left arrow is 0, the right one {last}."
    return family_named(contract.family).keys_help or default
