"""Functions of tensors that are captured: their operations are run again without the Python code that chose them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Capture", "CaptureError", "Captured", "generators_in", "map_tensors", "tensors_in"]

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")
_Leaf = TypeVar("_Leaf")
Capture = Callable[[Callable[[Any], Any], Any], Callable[[Any], Any]]
"""Takes a function and an argument, and returns what computes the same for all arguments with tensors of these shapes.

The function must be a fixed sequence of operations on tensors. It may change tensors in place, and may be called more than
once.
"""
_MAX_SHAPES = 16
"""Most captures of one function. If its argument kept changing its shape, they would fill the memory."""


class CaptureError(Exception):
    """A function cannot be captured, because it does not do the same in every call."""


class Captured(Generic[_Argument, _Result]):
    """A function that is captured when it has been called `after` times with an argument of the same shapes.

    The argument is a tensor, or a dataclass, tuple or mapping of tensors; whatever else it contains stays as it was when
    the function was captured, except for random number generators. Without `capture`, the function is always called.
    """

    def __init__(
        self,
        function: Callable[[_Argument], _Result],
        capture: Capture | None,
        after: int = 1,
        kind: Callable[[_Argument], Hashable] = lambda argument: None,
    ) -> None:
        """For arguments of each `kind` the function does the same, and is captured separately."""
        self._function, self._capture, self._after, self._kind = function, capture, after, kind
        self._calls: Counter[tuple[Any, ...]] = Counter()
        self.captures: dict[tuple[Any, ...], Callable[[_Argument], _Result]] = {}
        """What is called for arguments of each kind and shape."""

    def __call__(self, argument: _Argument) -> _Result:
        """Return the function's result, which the next call may overwrite."""
        if self._capture is None:
            return self._function(argument)
        tensors = tensors_in(argument)
        shapes = self._kind(argument), *[(x.shape, x.stride(), x.dtype) for x in tensors]
        captured = self.captures.get(shapes)
        if captured is None:
            self._calls[shapes] += 1
            if self._calls[shapes] <= self._after or len(self.captures) == _MAX_SHAPES:
                return self._function(argument)
            try:
                captured = self._capture(self._function, argument)
            except CaptureError:
                captured = self._function
            self.captures[shapes] = captured
        return captured(argument)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in a dataclass, tuple or mapping of them, in a fixed order."""
    return _found(value, Tensor, [])


def generators_in(value: Any) -> list[torch.Generator]:
    """Return the generators of random numbers in a dataclass, tuple or mapping, in a fixed order."""
    return _found(value, torch.Generator, [])


def _found(value: Any, kind: type[_Leaf], found: list[_Leaf]) -> list[_Leaf]:
    """Add what there is of a kind in `value` to `found`."""
    if isinstance(value, kind):
        found.append(value)
    elif isinstance(value, Tensor | float | str):
        pass
    elif isinstance(value, tuple):
        for part in value:
            _found(part, kind, found)
    elif isinstance(value, Mapping):
        for part in value.values():
            _found(part, kind, found)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in vars(value).values():
            _found(part, kind, found)
    return found


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return `value` with every tensor changed, in the order of `tensors_in`."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        parts = [map_tensors(part, change) for part in value]
        return type(value)._make(parts) if hasattr(value, "_make") else tuple(parts)
    if isinstance(value, Mapping):
        return {name: map_tensors(part, change) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: map_tensors(part, change) for name, part in vars(value).items()})
    return value
