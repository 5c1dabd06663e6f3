"""An exclusive lock on a file that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncrl.common.close_on_fork import close, is_open, set_close_on_fork
from asyncrl.common.os_errors import attach_path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["AlreadyLocked", "check_unlocked", "file_lock"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of file systems without locks; locking is skipped there."""


class AlreadyLocked(Exception):
    """Another process holds the lock. `owner` is its process id, or None if unknown."""

    def __init__(self, owner: int | None) -> None:
        super().__init__(owner)
        self.owner = owner

    def __str__(self) -> str:
        return "another process" if self.owner is None else f"process {self.owner}"


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` during the block. Raises AlreadyLocked.

    The kernel releases the lock when this process ends, even by `kill -9`. Child processes do not inherit it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    set_close_on_fork(descriptor)
    try:
        _lock(descriptor, shared=False)
        with attach_path(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        yield
    finally:
        if is_open(descriptor):  # false in a forked process
            _unlock(descriptor)
            close(descriptor)


def check_unlocked(path: Path) -> None:
    """Raise AlreadyLocked if a process holds the lock on `path`. A missing file is unlocked."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        _lock(file.fileno(), shared=True)
        _unlock(file.fileno())


def _lock(descriptor: int, *, shared: bool) -> None:
    try:
        if fcntl is None:
            _lock_on_windows(descriptor, shared=shared)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = os.read(descriptor, 20).strip()
        raise AlreadyLocked(int(owner) if owner.isdigit() else None) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _unlock(descriptor: int) -> None:
    """Release a lock that another copy of its descriptor would keep: that of a child that another thread is starting."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # not supported, as in `_lock`
            fcntl.flock(descriptor, fcntl.LOCK_UN)


_LOCKED_BYTE = 2**30
"""The byte that is locked on Windows: beyond the file's end, because other processes cannot read locked bytes."""


def _lock_on_windows(descriptor: int, *, shared: bool) -> None:
    """Lock one byte; there are no shared locks, so `shared` only tests whether it could be locked."""
    import msvcrt

    windows: Any = msvcrt  # its functions are unknown to type checkers on other systems
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        for mode in (windows.LK_NBLCK, windows.LK_UNLCK) if shared else (windows.LK_NBLCK,):
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            windows.locking(descriptor, mode, 1)
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from None
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
