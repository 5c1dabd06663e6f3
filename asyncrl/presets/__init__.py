"""Tuned settings as data: one TOML file per preset."""

from __future__ import annotations

import copy
import fnmatch
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncrl.errors import UsageError, suggestions

__all__ = ["automatic", "for_kind", "preset_names", "purpose", "read_preset"]

_FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of all presets, for example "a3c/atari"."""
    return list(_files())


def read_preset(name: str) -> dict[str, Any]:
    """The tables of a preset. Raises UsageError for an unknown name."""
    if name not in _files():
        raise UsageError(f"there is no preset {name!r}{suggestions(name, preset_names())} (asyncrl list presets)")
    return copy.deepcopy(_tables(name))


def for_kind(algorithm: str, kind: str) -> str | None:
    """The algorithm's preset for a kind of environment ("images", "discrete" or "continuous"); None if there is none."""
    return next((name for name, preset in _presets_of(algorithm) if kind in preset.get("kinds", ())), None)


_KINDS = {"images": "images", "discrete": "numbers and discrete actions", "continuous": "numbers and continuous actions"}


def purpose(name: str, env: str) -> str:
    """What a preset is for, as a phrase that explains why it was chosen for `env`; "" if only a user chooses it."""
    preset = _tables(name) if name in _files() else {}
    if any(fnmatch.fnmatch(env, pattern) for pattern in preset.get("environments", ())):
        return f"tuned for {env}"
    kinds = " or ".join(_KINDS[kind] for kind in preset.get("kinds", ()))
    return f"for any environment with {kinds}" if kinds else ""


def automatic(algorithm: str, env: str) -> str | None:
    """The preset tuned for an algorithm and an environment; None if there is none.

    It is the first whose `environments` has a pattern that matches `env`.
    """
    for name, preset in _presets_of(algorithm):
        if any(fnmatch.fnmatch(env, pattern) for pattern in preset["environments"]):
            return name
    return None


def _presets_of(algorithm: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names and tables of an algorithm's presets. Only files that mention it are parsed, because parsing is slow."""
    for name, text in _files().items():
        if algorithm in text and (preset := _tables(name))["algorithm"]["name"] == algorithm:
            yield name, preset


@functools.cache
def _files() -> dict[str, str]:
    """The text of every preset's file by the preset's name, sorted."""
    files = {str(path.relative_to(_FOLDER).with_suffix("")): path for path in _FOLDER.rglob("*.toml")}
    return {name: files[name].read_text(encoding="utf-8") for name in sorted(files)}


@functools.cache
def _tables(name: str) -> dict[str, Any]:
    """The tables of a preset."""
    return tomllib.loads(_files()[name])
