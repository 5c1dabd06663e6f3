"""How a process computes: with how many threads, and in memory that it keeps."""

from __future__ import annotations

import ctypes
import sys

import torch

__all__ = ["compute_with"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for them, malloc.h
_MIB = 2**20


def compute_with(threads: int) -> None:
    """Let torch compute with `threads` threads, and let freed memory be used again instead of going back to the system.

    A batch of frames is as large as what glibc returns to the kernel as soon as it is free; taking it back, page
    by page, costs as much as a quarter of an update.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)  # the highest that it takes
        libc.mallopt(_TRIM_THRESHOLD, 512 * _MIB)
