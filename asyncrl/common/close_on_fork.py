"""Descriptors and connections that forks of this process close, as with POSIX's FD_CLOFORK.

Other processes notice the end of this one, or of what it does, when its last copy of such a descriptor is closed. Code that
forks, such as an environment with `multiprocessing`, would keep it open.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["close", "close_connection_on_fork", "is_open", "set_close_on_fork"]

_descriptors: set[int] = set()
_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def set_close_on_fork(descriptor: int) -> None:
    """Let forks close this descriptor; `close` closes it in this process."""
    _descriptors.add(descriptor)


def close_connection_on_fork(connection: Connection) -> None:
    """Let forks close this connection; its `close` closes it in this process, as always."""
    _connections.add(connection)


def is_open(descriptor: int) -> bool:
    """Whether such a descriptor is open in this process, which it is not in a fork."""
    return descriptor in _descriptors


def close(descriptor: int) -> None:
    """Close such a descriptor, unless this process is a fork, in which it is closed."""
    if descriptor in _descriptors:
        _descriptors.remove(descriptor)
        os.close(descriptor)


def _close_inherited() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    for connection in _connections:
        connection.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_inherited)
