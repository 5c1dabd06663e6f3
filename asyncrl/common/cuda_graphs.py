"""Functions of tensors as CUDA graphs: all their kernels are launched at once, without Python and its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Captured", "Launch", "cuda_graph", "tensors_in"]

_WARM_UPS = 2
"""Calls before a capture: the first ones load kernels and allocate workspaces, which a capture cannot."""
_lock = threading.Lock()
"""Held during a capture, which the synchronization at the start of another one would break."""

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")
Launch = Callable[[], object]
"""Computes a captured function again, from the tensors that it was captured with and into those that it returned."""


def cuda_graph(function: Callable[[], _Result]) -> tuple[Launch, _Result]:
    """Capture `function`, which takes no arguments, as a CUDA graph. Returns its launch and its result.

    The function must be a fixed sequence of operations on tensors of the GPU, may change tensors in place, and is called
    more than once. It may be captured while other threads compute on other streams.
    """
    with _lock:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()
    return graph.replay, result


class Captured(Generic[_Argument, _Result]):
    """A function that is captured in the second call with an argument of a shape.

    The argument is a tensor, or a dataclass, tuple or mapping of tensors; whatever else it contains stays as it was when
    the function was captured. Later calls copy the argument's tensors to where the captured function reads them.
    """

    def __init__(
        self,
        function: Callable[[_Argument], _Result],
        device: torch.device | str,
        capture: Callable[[Callable[[], _Result]], tuple[Launch, _Result]] | None = cuda_graph,
    ) -> None:
        """Arguments may be on the CPU: `function` is called with copies on `device`. Without `capture`, always."""
        self._function, self._device, self._capture = function, device, capture
        self._seen: set[tuple[Any, ...]] = set()
        self._graphs: dict[tuple[Any, ...], tuple[list[Tensor], Launch, _Result]] = {}

    def __call__(self, argument: _Argument) -> _Result:
        """Return the function's result, whose tensors are overwritten by the next call."""
        given = list(tensors_in(argument))
        shapes = tuple((x.shape, x.dtype) for x in given)
        if shapes not in self._graphs:
            own = _map_tensors(argument, lambda x: x.to(self._device, copy=True))
            if self._capture is None or shapes not in self._seen:
                self._seen.add(shapes)
                return self._function(own)
            launch, result = self._capture(lambda: self._function(own))
            self._graphs[shapes] = list(tensors_in(own)), launch, result
        inputs, launch, result = self._graphs[shapes]
        for own_tensor, x in zip(inputs, given, strict=True):
            own_tensor.copy_(x, non_blocking=True)
        launch()
        return result


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a dataclass, tuple or mapping of them, in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for part in _parts(value).values():
            yield from tensors_in(part)


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return `value` with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    parts = {name: _map_tensors(part, change) for name, part in _parts(value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **parts)
    if isinstance(value, tuple):
        return type(value)._make(parts.values()) if hasattr(value, "_make") else tuple(parts.values())
    return parts if isinstance(value, Mapping) else value


def _parts(value: Any) -> dict[Any, Any]:
    """Return what a dataclass, tuple or mapping consists of, by name; {} for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {own.name: getattr(value, own.name) for own in fields(value)}
    if isinstance(value, tuple):
        return dict(enumerate(value))
    return dict(value) if isinstance(value, Mapping) else {}
