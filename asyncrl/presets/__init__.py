"""Tuned settings as data: one TOML file per preset."""

from __future__ import annotations

import copy
import fnmatch
import functools
import tomllib
from pathlib import Path
from typing import Any

from asyncrl.errors import UsageError, suggestions

__all__ = ["automatic", "for_kind", "preset_names", "purpose", "read_preset"]

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of all presets, for example "a3c/atari"."""
    return list(_presets())


def read_preset(name: str) -> dict[str, Any]:
    """The tables of a preset. Raises UsageError for an unknown name."""
    if name not in preset_names():
        raise UsageError(f"there is no preset {name!r}{suggestions(name, preset_names())} (asyncrl list presets)")
    return copy.deepcopy(_presets()[name])


def for_kind(algorithm: str, kind: str) -> str | None:
    """The algorithm's preset for a kind of environment ("images", "discrete" or "continuous"); None if there is none."""
    for name, preset in _presets().items():
        if preset["algorithm"]["name"] == algorithm and kind in preset.get("kinds", ()):
            return name
    return None


_KINDS = {"images": "images", "discrete": "numbers and discrete actions", "continuous": "numbers and continuous actions"}


def purpose(name: str, env: str) -> str:
    """What a preset is for, as a phrase that explains why it was chosen for `env`; "" if only a user chooses it."""
    preset = _presets().get(name, {})
    if any(fnmatch.fnmatch(env, pattern) for pattern in preset.get("environments", ())):
        return f"tuned for {env}"
    kinds = " or ".join(_KINDS[kind] for kind in preset.get("kinds", ()))
    return f"for any environment with {kinds}" if kinds else ""


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    """The tables of all presets by name, sorted."""
    names = sorted(str(p.relative_to(_FOLDER).with_suffix("")) for p in _FOLDER.rglob("*.toml"))
    return {name: tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in names}


def automatic(algorithm: str, env: str) -> str | None:
    """The preset tuned for an algorithm and an environment; None if there is none.

    It is the first whose `environments` has a pattern that matches `env`.
    """
    for name, preset in _presets().items():
        if preset["algorithm"]["name"] == algorithm and any(fnmatch.fnmatch(env, p) for p in preset["environments"]):
            return name
    return None
