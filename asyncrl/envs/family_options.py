"""Options of an environment's family: read from files, merged, and refused where the environment does not take them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import fields, make_dataclass, replace
from enum import Enum
from typing import Any

from asyncrl.common.serialization import from_json
from asyncrl.common.validation import flag
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.registry import FAMILIES, claiming_family
from asyncrl.errors import UsageError

__all__ = [
    "check_names",
    "combined_options",
    "convert",
    "family_option_names",
    "merge",
    "option_names",
    "read_options",
]


def option_names() -> frozenset[str]:
    """Return the names of all families' options."""
    return frozenset(name for cls in _classes() for name in _names(cls))


def family_option_names() -> frozenset[str]:
    """Return the names of the options that only some families have."""
    return option_names() - _names(EnvOptions)


@functools.cache
def combined_options() -> type[EnvOptions]:
    """Return a dataclass with the options of all families, for commands whose environment is not known yet."""
    classes = _classes()
    leaves = tuple(cls for cls in classes if not any(other is not cls and issubclass(other, cls) for other in classes))
    return make_dataclass("CombinedOptions", (), bases=leaves, frozen=True)


def read_options(env_id: str, data: Mapping[Any, Any], where: str = "environment") -> EnvOptions:
    """Return the options in the table `data`, as an instance of the options class of the environment's family.

    Nothing is imported that `data` names. A table that lists every option of one class is of that class. Options of
    other families are dropped where they are None, as version 0.1.0 wrote them; `convert` refuses the others. Raises
    UsageError for keys that no family has and for values of the wrong type.
    """
    for cls in _classes():
        if data.keys() == _names(cls):
            return from_json(cls, data, where)
    backend = data.get("env_backend")
    family = claiming_family(env_id, envpool=backend in (Backend.ENVPOOL, Backend.ENVPOOL.value)) if env_id else None
    preferred = EnvOptions if family is None else family.options
    foreign = option_names() - _names(preferred)
    asked = {name: value for name, value in data.items() if value is not None or name not in foreign}
    return from_json(_class_with(asked, preferred), asked, where)


def merge(options: EnvOptions, changes: EnvOptions) -> EnvOptions:
    """Return `options` with the options of `changes` that differ from their defaults."""
    changed = changes.non_defaults()
    if changed.keys() <= _names(type(options)):
        return replace(options, **changed)
    merged = options.non_defaults() | changed
    return _class_with(merged, type(options))(**merged)


def convert(options: EnvOptions, family: Family, env_id: str) -> EnvOptions:
    """Return `options` as an instance of `family.options`.

    Raises UsageError for options that the environment does not take and for numbers out of range.
    """
    options.check()
    changed = options.non_defaults()
    names = _names(family.options) - family.unsupported.keys()
    for name, value in changed.items():
        if name not in names:
            raise UsageError(f"{env_id} takes no {flag(name)} (given: {_shown(value)}): {_reason(name, family)}")
    return family.options(**changed)


def check_names(names: Iterable[str], options: EnvOptions, env_id: str) -> None:
    """Raise UsageError for the first of `names` that is an option of other families, but not of `options`."""
    for name in names:
        if name in option_names() - _names(type(options)):
            raise UsageError(f"{env_id} takes no {flag(name)}: it is an option of {_families_with(name)} environments")


def _classes() -> list[type[EnvOptions]]:
    """Return the options class of every family, general ones first."""
    return sorted({family.options for family in FAMILIES} | {EnvOptions}, key=lambda cls: (len(cls.__mro__), cls.__name__))


def _names(cls: type[EnvOptions]) -> frozenset[str]:
    return frozenset(field.name for field in fields(cls))


def _class_with(names: Iterable[str], preferred: type[EnvOptions]) -> type[EnvOptions]:
    """Return `preferred`, unless it lacks some of `names` that another class has all of."""
    wanted = option_names() & frozenset(names)
    if wanted <= _names(preferred):
        return preferred
    return next((cls for cls in _classes() if wanted <= _names(cls)), combined_options())


def _reason(name: str, family: Family) -> str:
    return family.unsupported.get(name) or f"it is an option of {_families_with(name)} environments"


def _families_with(name: str) -> str:
    """Return the names of the families that take an option."""
    return ", ".join(one.name for one in FAMILIES if name in _names(one.options) - one.unsupported.keys())


def _shown(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
