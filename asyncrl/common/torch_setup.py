"""Threads, memory allocation and modes of torch in a process."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import torch

__all__ = ["set_torch_threads", "standard_modes"]

_M_TRIM_THRESHOLD = -1  # of glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_MIB = 2**20


def set_torch_threads(threads: int) -> None:
    """Let torch compute with `threads` threads, and let glibc keep freed memory for reuse.

    By default glibc returns blocks as large as a batch of frames to the kernel when they are freed. Faulting their pages
    in again takes up to a quarter of an update's time.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # the maximum
        libc.mallopt(_M_TRIM_THRESHOLD, 512 * _MIB)


@contextlib.contextmanager
def standard_modes() -> Iterator[None]:
    """Use torch's default modes during the block, whatever the caller has set: gradients on, new tensors on the CPU.

    This undoes `torch.set_grad_enabled(False)`, `torch.inference_mode()` and `torch.set_default_device`, which apply to
    the calling thread only. The default dtype applies to all threads; therefore every tensor is created with its dtype.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
