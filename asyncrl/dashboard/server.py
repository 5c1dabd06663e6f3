"""The server of the page, on 127.0.0.1 only."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from asyncrl.errors import SystemFault, UsageError

__all__ = ["Address", "check_installed", "open_address", "serve"]

HOST = "127.0.0.1"
PORT = 8765
_PORTS = 100
"""Ports that are tried, from `PORT` on, if none is asked for."""


class Address:
    """A listening socket on this machine, and the token that a request must know."""

    def __init__(self, listening: socket.socket, token: str) -> None:
        self.socket = listening
        self.token = token

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/{self.token}/"


def check_installed() -> None:
    """Raise UsageError with the line to install if starlette or uvicorn is missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as missing:
        raise UsageError(f"the live page needs {missing.name}: pip install 'asyncrl[watch]'") from None


def open_address(port: int | None = None) -> Address:
    """Listen on `port`, where 0 is any free one; None is the first free one from `PORT` on.

    Raises UsageError if `port` is in use, and SystemFault if all are.
    """
    if port is not None and not 0 <= port <= 65_535:
        raise UsageError(f"--port must be between 0 and 65535, not {port}")
    for candidate in range(PORT, PORT + _PORTS) if port is None else [port]:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where others could listen on the same port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((HOST, candidate))
            listening.listen(128)
        except OSError as problem:
            listening.close()
            if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            if port is not None:
                why = "is in use" if problem.errno == errno.EADDRINUSE else "may not be used by this user"
                raise UsageError(f"port {port} {why}; without --port, a free one is taken") from None
        else:
            return Address(listening, secrets.token_urlsafe(24))
    raise SystemFault(f"every port from {PORT} to {PORT + _PORTS - 1} is in use; choose another with --port")


def serve(names: Sequence[Path | str], address: Address, *, trust: bool = False) -> None:
    """Serve the page until a signal ends it."""
    import uvicorn

    from asyncrl.dashboard.app import make_app
    from asyncrl.dashboard.watched import WatchedRuns

    runs = WatchedRuns(names)
    app = make_app(runs, token=address.token, port=address.port, trust=trust, is_ending=lambda: server.should_exit)
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    with address.socket:
        server.run(sockets=[address.socket])
