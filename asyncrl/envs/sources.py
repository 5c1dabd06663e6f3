"""Environments that are given as code, and what other processes need to make them."""

from __future__ import annotations

import contextlib
import importlib
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from asyncrl.common import import_strings
from asyncrl.envs.contract import Contract
from asyncrl.errors import UsageError

__all__ = ["EnvSource", "dump", "env_id_of", "install"]

EnvSource = str | Callable[..., Any]
"""An environment's id, its class, or a function that makes one."""


def env_id_of(env: Any) -> str:
    """Return the id of an environment source. Raises UsageError for an object that cannot be made many times."""
    if isinstance(env, str):
        return env
    spec = env if isinstance(env, EnvSpec) else getattr(env, "spec", None)
    instead = f"its id {spec.id!r}, " if isinstance(spec, EnvSpec) and spec.id in gymnasium.registry else ""
    given = f"the environment was given as {reprlib.repr(env)}"
    if isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv | EnvSpec):
        raise UsageError(f"{given}, but a run makes many: give {instead}its class, or a function that makes one")
    if not callable(env):
        raise UsageError(f"{given}: give an id (asyncrl list envs), its class, or a function that makes one")
    return import_strings.name_of(env)


def dump(contract: Contract, *others: str) -> bytes:
    """Return the code that another process needs to make these environments and cannot import; see `install`.

    `others` name further code, as `module:Name`. Raises UsageError for code that cannot be pickled.
    """
    names = list(others)
    specs = []
    for one in contract.contracts:
        module, _, name = one.env.rpartition(":")
        spec = gymnasium.registry.get(name)
        if spec is None:
            names.append(one.env)
        elif module in ("", "__main__"):  # otherwise importing the module registers it there too
            specs.append(spec)
            names += [place for place in _entry_points(spec) if isinstance(place, str)]
    code = [place for spec in specs for place in _entry_points(spec) if callable(place)]
    return import_strings.dump(names, [*specs, *code], contract.env)


def install(data: bytes, env_id: str) -> None:
    """Install what `dump` returned, so that ids mean the same in this process.

    Raises UsageError, which names `env_id`, for modules that are missing here.
    """
    for spec in import_strings.install(data, env_id):
        if not isinstance(spec, EnvSpec):
            continue
        if isinstance(spec.entry_point, str):
            with contextlib.suppress(Exception):  # importing it may register the id, and must not do so later
                importlib.import_module(spec.entry_point.partition(":")[0])
        gymnasium.registry[spec.id] = spec


def _entry_points(spec: EnvSpec) -> Iterator[Any]:
    """Yield the code that makes a registered id, as `module:Name` or as an object."""
    yield from (spec.entry_point, spec.vector_entry_point)
    yield from (wrapper.entry_point for wrapper in spec.additional_wrappers)
