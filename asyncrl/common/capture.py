"""Functions of tensors that are captured: their operations are run again without the Python code that chose them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Capture", "Captured", "CaptureError", "generators_in", "map_tensors", "tensors_in"]

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")
_Leaf = TypeVar("_Leaf")
Capture = Callable[[Callable[[Any], Any], Any], Callable[[Any], Any]]
"""Takes a function and an argument, and returns what computes the same for all arguments with tensors of these shapes.

The function must be a fixed sequence of operations on tensors. It may change tensors in place, and is called more than once.
"""
_MOST_SHAPES = 16
"""Captures of a function at most. A function whose argument keeps changing its shape would fill the memory with them."""


class CaptureError(Exception):
    """A function cannot be captured, because it does not do the same in every call."""


class Captured(Generic[_Argument, _Result]):
    """A function that is captured when it has been called `after` times with an argument of the same shapes.

    The argument is a tensor, or a dataclass, tuple or mapping of tensors; whatever else it contains stays as it was when
    the function was captured, but for generators of random numbers. Without `capture`, the function is always called.
    """

    def __init__(self, function: Callable[[_Argument], _Result], capture: Capture | None, after: int = 1) -> None:
        self._function, self._capture, self._after = function, capture, after
        self._calls: Counter[tuple[Any, ...]] = Counter()
        self.captures: dict[tuple[Any, ...], Callable[[_Argument], _Result]] = {}
        """What is called for arguments of each shape."""

    def __call__(self, argument: _Argument) -> _Result:
        """Return the function's result, which the next call may overwrite."""
        if self._capture is None:
            return self._function(argument)
        shapes = tuple([(x.shape, x.stride(), x.dtype) for x in tensors_in(argument)])
        captured = self.captures.get(shapes)
        if captured is None:
            self._calls[shapes] += 1
            if self._calls[shapes] <= self._after or len(self.captures) == _MOST_SHAPES:
                return self._function(argument)
            try:
                captured = self._capture(self._function, argument)
            except CaptureError:
                captured = self._function
            self.captures[shapes] = captured
        return captured(argument)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a dataclass, tuple or mapping of them, in a fixed order."""
    return _leaves(value, Tensor)


def generators_in(value: Any) -> Iterator[torch.Generator]:
    """Yield the generators of random numbers in a dataclass, tuple or mapping, in a fixed order."""
    return _leaves(value, torch.Generator)


def _leaves(value: Any, kind: type[_Leaf]) -> Iterator[_Leaf]:
    if isinstance(value, kind):
        yield value
    elif not isinstance(value, Tensor):
        for part in _parts(value).values():
            yield from _leaves(part, kind)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return `value` with every tensor changed, in the order of `tensors_in`."""
    if isinstance(value, Tensor):
        return change(value)
    parts = {name: map_tensors(part, change) for name, part in _parts(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **parts)
    if isinstance(value, tuple):
        return type(value)._make(parts.values()) if hasattr(value, "_make") else tuple(parts.values())
    return parts if isinstance(value, Mapping) else value


def _parts(value: Any) -> Mapping[Any, Any]:
    """Return what a dataclass, tuple or mapping consists of, by name; {} for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple):
        return dict(enumerate(value))
    return vars(value) if is_dataclass(value) and not isinstance(value, type) else {}
