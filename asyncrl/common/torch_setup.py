"""How a process computes: with how many threads, in which modes of torch, and in memory that it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

__all__ = ["set_torch_threads", "standard_modes"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for them, malloc.h
_MIB = 2**20


def set_torch_threads(threads: int) -> None:
    """Let torch compute with `threads` threads, and let freed memory be used again instead of going back to the system.

    A batch of frames is as large as what glibc returns to the kernel as soon as it is free; taking it back, page
    by page, costs as much as a quarter of an update.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # the highest that it takes
        libc.mallopt(_TRIM_THRESHOLD, 512 * _MIB)


@contextlib.contextmanager
def standard_modes() -> Iterator[None]:
    """Compute as in a fresh process, whatever the caller has set: gradients are recorded, tensors are made on the CPU.

    For `torch.set_grad_enabled(False)`, `torch.inference_mode()` and `torch.set_default_device`, which hold for the
    caller's thread alone. The default dtype holds for all threads, so every tensor that is made says its own.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
