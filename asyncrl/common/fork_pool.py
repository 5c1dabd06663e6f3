"""Fork servers without workers, kept for the next ones.

Nothing here imports torch: a command can start a server before its own imports, which take as long as the server's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator

from asyncrl.common.fork_server import ForkServer

__all__ = ["acquire", "kept_idle", "prepare", "release", "shutdown_idle"]

_MODULE = "asyncrl.engines.workers"
"""What the servers import and run."""

_idle: list[ForkServer] = []

_lock = threading.Lock()


def prepare(servers: int = 1) -> None:
    """Start fork servers in the background, so that their imports are done when workers are needed."""
    with _lock:
        for _ in range(servers - sum(server.is_reusable for server in _idle)):
            _idle.append(ForkServer(_MODULE))


def shutdown_idle() -> None:
    """Kill the fork servers that have no workers."""
    with _lock:
        while _idle:
            server = _idle.pop()
            if server.owner == os.getpid():  # false in a fork of the owner
                server.kill()


@contextlib.contextmanager
def kept_idle() -> Iterator[None]:
    """Keep the fork servers without workers until after the block, even if it calls `shutdown_idle`."""
    with _lock:
        kept, _idle[:] = [*_idle], []
    try:
        yield
    finally:
        with _lock:
            _idle.extend(kept)


def acquire() -> ForkServer:
    """Return a fork server without workers, a new one if none is idle."""
    with _lock:
        while _idle:
            server = _idle.pop()
            if server.is_reusable:
                return server
            if server.owner == os.getpid():
                server.kill()
    return ForkServer(_MODULE)


def release(server: ForkServer) -> None:
    """Keep a fork server whose workers have ended."""
    with _lock:
        _idle.append(server)


atexit.register(shutdown_idle)
