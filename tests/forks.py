"""Forks of the test process."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def idle_fork() -> Iterator[None]:
    """A fork that does nothing until the end of the block, such as a caller's own process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process has threads, which the fork does not use
        pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
