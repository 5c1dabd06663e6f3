"""Memory that a process shares with its workers. It has no name: nothing can be left behind, and /dev/shm is not needed."""

from __future__ import annotations

import contextlib
import mmap
import os
from functools import cached_property
from pathlib import Path

import psutil
import torch
from torch import Tensor

from asyncrl.common.child_process import anonymous_file
from asyncrl.errors import UsageError

__all__ = ["SharedMemory", "available_memory"]


class SharedMemory:
    """`file` is the descriptor of an anonymous file, which belongs to this object."""

    def __init__(self, file: int) -> None:
        self.file = file

    @classmethod
    def allocate(cls, nbytes: int) -> SharedMemory:
        """New memory, all zeros. Raises UsageError where the system gives none."""
        try:
            memory = cls(anonymous_file(nbytes))
            assert len(memory.tensor) == nbytes
        except (OSError, OverflowError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise UsageError(
                f"{nbytes / 1e6:,.0f} MB of memory that actors and learner share cannot be had ({reason}): take fewer "
                "--actors or --envs-per-actor, or --engine threads"
            ) from None
        return memory

    @cached_property
    def tensor(self) -> Tensor:
        """All of it, [nbytes] uint8."""
        return torch.frombuffer(mmap.mmap(self.file, os.fstat(self.file).st_size), dtype=torch.uint8)

    def __del__(self) -> None:
        os.close(self.file)


def available_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or its container's limit leaves."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no container, or none with a limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, limit - used)
    return max(0, available)
