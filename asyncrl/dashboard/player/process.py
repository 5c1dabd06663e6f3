"""The process in which an agent plays for the page: never a process of the run that is watched."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.dashboard.player.messages import pack, unpack
from asyncrl.dashboard.player.viewer import Viewer
from asyncrl.errors import AsyncRLError

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Run a viewer whose first message is {"run": …, "trust": …}."""
    set_torch_threads(1)
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        with connection.makefile("rb", buffering=0) as file:
            first = unpack(lambda count: _exactly(file, count))
        if first is None:
            return
        try:
            viewer = Viewer(first[0]["run"], connection, trust=bool(first[0]["trust"]))
        except (AsyncRLError, OSError) as problem:
            connection.sendall(pack({"kind": "refused", "message": str(problem)}))
            return
        viewer.run()


def _exactly(file: Any, count: int) -> bytes:
    """Read `count` bytes and not one more from an unbuffered file; b"" at its end."""
    data = b""
    while len(data) < count:
        if not (more := file.read(count - len(data))):
            return b""
        data += more
    return data
