"""Threads, memory allocation, modes and streams of torch in a process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "configure_gpu",
    "one_torch_thread",
    "pin",
    "set_torch_threads",
    "standard_modes",
    "unpin",
    "use_own_stream",
    "wait_for_gpu",
]

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
def one_torch_thread() -> Iterator[None]:
    """Let torch compute with one thread during the block: with several, it may add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def standard_modes() -> Iterator[None]:
    """Use torch's default modes during the block, whatever the caller has set: gradients on, new tensors on the CPU.

    This undoes `torch.set_grad_enabled(False)`, `torch.inference_mode()`, `torch.autocast` and `torch.set_default_device`,
    which apply to the calling thread only. The default dtype applies to all threads; therefore every tensor is created
    with its dtype. The caller's number of threads is restored.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def configure_gpu(device: torch.device | str) -> None:
    """Let `device`, if it is a GPU, compute the same numbers in every run, and float32 in full precision, not as TF32."""
    if torch.device(device).type == "cpu":
        return
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pin(memory: Tensor) -> bool:
    """Pin memory that other processes may share, from which GPUs then copy faster. Returns whether the system allows it."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    is_pinned = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0
    if not is_pinned:
        with contextlib.suppress(RuntimeError):  # CUDA reports the failure with the next kernel
            torch.ones(1, dtype=torch.float32, device="cuda")
    return is_pinned


def unpin(memory: Tensor) -> None:
    """Undo `pin`, before the memory is freed."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    runtime.cudaHostUnregister(memory.data_ptr())


def use_own_stream(device: str) -> None:
    """Let the calling thread compute on a separate stream if `device` is a GPU.

    Its kernels then run beside those of other threads, and before them where there is a choice.
    """
    if device != "cpu":
        torch.cuda.set_stream(torch.cuda.Stream(device, priority=-1))  # type: ignore[no-untyped-call]


def wait_for_gpu(x: Tensor) -> None:
    """Wait until everything that this thread has launched is done, if `x` is on a GPU."""
    if x.is_cuda:
        torch.cuda.current_stream().synchronize()
