"""Temporary folders on a node of a cluster. Ray may kill the process that owns one; the next process then removes it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from asyncrl.common.file_lock import file_lock

__all__ = ["NodeFolder"]

_PREFIX = "asyncrl-node-"
_LOCK = ".node-folder"
"""A file in the folder that its process holds a lock on. No other folder has one: what is not locked is removed."""


class NodeFolder:
    """A new temporary folder of this process, `path`. Folders whose process was killed are removed first."""

    def __init__(self) -> None:
        _remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._held = contextlib.ExitStack()
        self._held.enter_context(file_lock(self.path / ".new"))
        os.rename(self.path / ".new", self.path / _LOCK)  # others see it only once it is locked

    def remove(self) -> None:
        """Remove the folder. Idempotent."""
        self._held.close()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_abandoned() -> None:
    import fcntl  # not on Windows, where no commands run

    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        # Not `file_lock`, which succeeds on file systems without locks.
        with contextlib.suppress(OSError), open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
