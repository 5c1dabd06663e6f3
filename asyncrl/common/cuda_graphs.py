"""Functions of tensors as CUDA graphs: all their kernels are launched at once, without Python and its lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from asyncrl.common.capture import map_tensors, tensors_in

__all__ = ["cuda_graph"]

_WARM_UPS = 2
"""Calls before a capture: the first ones load kernels and allocate workspaces, which a capture cannot."""
_lock = threading.Lock()
"""Held during a capture, which the synchronization at the start of another one would break."""


def cuda_graph(function: Callable[[Any], Any], argument: Any, device: torch.device | str = "cuda") -> Callable[[Any], Any]:
    """Capture `function` as a CUDA graph (see `Capture`). What is returned overwrites the tensors of its result.

    The graph reads copies of the argument's tensors on `device`. It may be captured while other threads compute on other
    streams.
    """
    own = map_tensors(argument, lambda x: x.to(device, copy=True))
    with _lock:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(own)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function(own)
    inputs = tensors_in(own)

    def launch(argument: Any) -> Any:
        for own_tensor, x in zip(inputs, tensors_in(argument), strict=True):
            own_tensor.copy_(x, non_blocking=True)
        graph.replay()
        return result

    return launch
