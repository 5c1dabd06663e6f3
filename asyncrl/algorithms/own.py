"""Algorithms of the user: their names, and what is asked of their classes."""

from __future__ import annotations

import dataclasses
import inspect
import reprlib
from typing import Any

from asyncrl.algorithms.base import Algorithm
from asyncrl.common import import_strings, named_code
from asyncrl.errors import UsageError

__all__ = ["GROUP", "AlgorithmSource", "check_class", "installed_algorithms", "own_algorithm", "place_of"]

GROUP = "asyncrl.algorithms"
"""Entry-point group in which packages register algorithms."""

AlgorithmSource = str | type[Algorithm] | Algorithm
"""An algorithm's name, its class, or an instance with the hyperparameters to use."""


def installed_algorithms() -> dict[str, str]:
    """Return the algorithms of installed packages: the place of each, by name. Nothing is imported."""
    return {name: named_code.place_of(point) for name, point in named_code.installed(GROUP).items()}


def own_algorithm(name: str) -> type[Algorithm]:
    """Return the class that `module:Name` or an entry point names, importing its module.

    Raises UsageError if there is none or it is no complete algorithm.
    """
    return check_class(named_code.load(name, "algorithm", GROUP), name)


def place_of(algorithm: type[Algorithm]) -> str:
    """Return `module:Name` of the user's class, which `own_algorithm` takes."""
    return import_strings.name_of(check_class(algorithm, algorithm.__qualname__))


def check_class(cls: Any, name: str) -> type[Algorithm]:
    """Return `cls`. Raises UsageError, which calls it `name`, if it is not a class that can be trained with."""
    if not (isinstance(cls, type) and issubclass(cls, Algorithm)):
        raise UsageError(f"algorithm {name} is {reprlib.repr(cls)}; expected a subclass of asyncrl.algorithms.Algorithm")
    fields = {field for field, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)}
    if fields and "__dataclass_fields__" not in vars(cls):
        raise UsageError(f"algorithm {name} must be a frozen dataclass: add @dataclass(frozen=True)")
    for method in ("check", "experience", "act", "loss"):
        if getattr(cls, method) is getattr(Algorithm, method):
            raise UsageError(f"algorithm {name} does not define the method {method!r}")
    if not isinstance(getattr(cls, "network", None), type):
        raise UsageError(f"algorithm {name} has no network: set it to a class, such as asyncrl.networks.ActorCritic")
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"algorithm {name}: the hyperparameter {missing[0]!r} needs a default")
    return cls
