"""The user's own algorithms: their names, and checks of their classes."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import reprlib
import types
from collections.abc import Iterator
from enum import Enum
from typing import Any, TypeGuard, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from asyncrl.algorithms.base import Algorithm, Loss
from asyncrl.common import import_strings, named_code
from asyncrl.errors import UsageError
from asyncrl.experience import Experience

__all__ = [
    "GROUP",
    "RECORDED",
    "AlgorithmSource",
    "check_class",
    "check_loss",
    "custom_algorithm",
    "installed_algorithms",
    "is_class",
    "place_of",
    "translate_errors",
]

GROUP = "asyncrl.algorithms"
"""Entry-point group in which packages register algorithms."""

RECORDED = {
    *("step", "update", "time", "kind", "steps_per_second", "frames_per_second", "episodes", "mean_return", "means"),
    *("policy_lag", "policy_lag_max", "queue_fill", "actions", "worker_restarts", "waiting_share", "learning_share"),
}
"""Other fields of `train` records, which no metric may have the name of."""

AlgorithmSource = str | type[Algorithm] | Algorithm
"""An algorithm's name, its class, or an instance with the hyperparameters to use."""


def installed_algorithms() -> dict[str, str]:
    """Return the algorithms of installed packages: the place of each, by name. Nothing is imported."""
    return named_code.installed(GROUP)


def custom_algorithm(name: str) -> type[Algorithm]:
    """Return the class that `module:Name` or an entry point names, importing its module.

    Raises UsageError if there is none, or if the class is not a complete algorithm.
    """
    return check_class(named_code.load(name, "algorithm", GROUP), name)


def place_of(algorithm: type[Algorithm]) -> str:
    """Return `module:Name` of the user's class, which `custom_algorithm` takes."""
    return import_strings.name_of(check_class(algorithm, algorithm.__qualname__))


def is_class(code: Any) -> TypeGuard[type[Algorithm]]:
    """Whether what the user names is the class of an algorithm."""
    return isinstance(code, type) and issubclass(code, Algorithm)


def check_class(cls: Any, name: str) -> type[Algorithm]:
    """Return `cls`. Raises UsageError, which calls it `name`, if it is not a class that can be trained with."""
    if not is_class(cls):
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
    _check_types(cls, name)
    _check_experience(cls, name)
    return cls


def check_loss(algorithm: Algorithm, loss: Any) -> None:
    """Raise UsageError if what an algorithm's `loss` returned is not a `Loss` that can be differentiated and recorded."""
    if not isinstance(loss, Loss):
        raise UsageError(
            f"algorithm {algorithm.name}: the method 'loss' returned {reprlib.repr(loss)}; expected a Loss, such as "
            "Loss.of(total)"
        )
    if not isinstance(loss.total, Tensor) or loss.total.dim():
        raise UsageError(
            f"algorithm {algorithm.name}: the loss is {reprlib.repr(loss.total)}; expected a tensor with one number"
        )
    for metric, value in loss.metrics.items():
        if metric in RECORDED:
            raise UsageError(
                f"algorithm {algorithm.name}: the metric {metric!r} has the name of another field of metrics.jsonl; "
                "rename it"
            )
        if isinstance(value, Tensor) and value.numel() != 1:
            raise UsageError(
                f"algorithm {algorithm.name}: the metric {metric!r} has the shape {[*value.shape]}; expected one number"
            )
    if not loss.total.requires_grad:
        raise UsageError(f"algorithm {algorithm.name}: the loss does not depend on the network's parameters")


@contextlib.contextmanager
def translate_errors(algorithm: type[Algorithm], name: str) -> Iterator[None]:
    """Turn what a method of the user's algorithm raises into a UsageError; other algorithms' exceptions stay."""
    try:
        yield
    except UsageError:
        raise
    except Exception as problem:
        if algorithm.__module__.startswith("asyncrl."):
            raise
        raise UsageError(f"algorithm {name} {named_code.describe_exception(problem)}") from problem


def _check_types(cls: type[Algorithm], name: str) -> None:
    """Raise UsageError for a hyperparameter whose type cannot be an option."""
    try:
        hints = get_type_hints(cls)
    except Exception as problem:
        raise UsageError(f"algorithm {name}: the types of its hyperparameters cannot be read: {problem}") from None
    of_classes = {field for field, hint in inspect.get_annotations(Algorithm).items() if "ClassVar" in str(hint)}
    for field in dataclasses.fields(cls):
        if field.name in of_classes:
            raise UsageError(f"algorithm {name}: {field.name!r} is not a hyperparameter; annotate it with ClassVar[…]")
        if not _is_option(hints[field.name]):
            kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
            raise UsageError(
                f"algorithm {name}: the hyperparameter {field.name!r} has the type {kind}; it must be bool, int, float, "
                "str, an Enum, one of these or None, a tuple of one of these, or a frozen dataclass"
            )


def _is_option(hint: Any) -> bool:
    """Whether the command line and saved configurations have values of a type."""
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return all(_is_option(hints[field.name]) for field in dataclasses.fields(hint))
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not types.NoneType]
        return len(members) == 1 and _is_option(members[0])
    if get_origin(hint) is tuple:
        return get_args(hint)[1:] == (...,) and _is_option(get_args(hint)[0])
    return isinstance(hint, type) and (hint in (bool, int, float, str) or issubclass(hint, Enum))


def _check_experience(cls: type[Algorithm], name: str) -> None:
    """Raise UsageError if an algorithm does not say which experience it learns from."""
    with translate_errors(cls, name):
        found: Any = cls().experience()
    if not isinstance(found, Experience):
        raise UsageError(
            f"algorithm {name}: the method 'experience' returned {reprlib.repr(found)}; expected OnPolicy, FullEpisodes or "
            "OffPolicy of asyncrl.experience"
        )
