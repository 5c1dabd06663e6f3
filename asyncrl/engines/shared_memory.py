"""Anonymous memory that a process shares with its workers. It leaves nothing behind and does not need /dev/shm."""

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

_GROUP = Path("/sys/fs/cgroup")


class SharedMemory:
    """Memory behind the descriptor `file` of an anonymous file, which this object owns and closes."""

    def __init__(self, file: int) -> None:
        self.file = file

    @classmethod
    def allocate(cls, nbytes: int) -> SharedMemory:
        """Return zeroed memory. Raises UsageError if the system refuses it."""
        try:
            memory = cls(anonymous_file(nbytes))
            assert len(memory.tensor) == nbytes
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot allocate {nbytes / 1e6:,.0f} MB of memory shared by actors and learner ({reason}): reduce "
                "--actors or --envs-per-actor, or use --engine threads"
            ) from None
        return memory

    @cached_property
    def tensor(self) -> Tensor:
        """The whole memory, [nbytes] uint8."""
        return torch.frombuffer(mmap.mmap(self.file, os.fstat(self.file).st_size), dtype=torch.uint8)

    def __del__(self) -> None:
        os.close(self.file)


def available_memory() -> int:
    """Return the bytes that this process can still allocate, within the machine and its container's limit."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        of_kind = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        files = ("active_file", "inactive_file")  # the kernel frees their pages on demand
        cached = sum(int(of_kind.get(name, 0)) for name in files)
        available = min(available, limit - used + cached)
    return max(0, available)
