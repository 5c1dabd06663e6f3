"""A storage in a local folder that fails, waits, or kills its process in the middle of an operation: faulty:///FOLDER."""

from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

__all__ = ["FaultyStorage"]


class FaultyStorage(LocalFileSystem):  # type: ignore[misc]
    """After `left` operations that change something, each of them fails; a file that is being written is left torn."""

    protocol = "faulty"
    left: ClassVar[float] = math.inf
    kills: ClassVar[bool] = False
    """Whether the process is killed instead."""
    answers: ClassVar[threading.Event] = threading.Event()
    """Operations wait for it."""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = str(path).removeprefix("faulty://").rstrip("/")
        return LocalFileSystem._strip_protocol(stripped)

    def put_file(self, path1: str, path2: str, callback: Any = None, **options: Any) -> None:
        self._operate(lambda: Path(path2).write_bytes(Path(path1).read_bytes()[:30]))
        super().put_file(path1, path2, callback, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        self._operate()
        super().mv(path1, path2, **options)

    def rm_file(self, path: str) -> None:
        self._operate()
        super().rm_file(path)

    def _operate(self, tear: Any = lambda: None) -> None:
        self.answers.wait(60)
        type(self).left -= 1
        if self.left < 0:
            tear()
            if self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(5, "the storage does not answer")


FaultyStorage.answers.set()
fsspec.register_implementation("faulty", FaultyStorage, clobber=True)
