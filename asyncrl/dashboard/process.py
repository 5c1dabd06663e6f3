"""The page from Python: in this process until Ctrl-C, or in a separate process beside a training run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from asyncrl.common.child_process import HAS_WORKERS, ChildProcess
from asyncrl.dashboard.server import Address, check_installed, open_address, serve
from asyncrl.dashboard.watched import WatchedRuns
from asyncrl.errors import UsageError
from asyncrl.runs.names import run_names

__all__ = ["Page", "main", "watch"]

_TIMEOUT = 3.0
"""Seconds that a server has to end."""


class Page:
    """A live page in a separate process, which ends with this one."""

    def __init__(self, names: Sequence[Path | str], port: int | None = None, *, trust: bool = False) -> None:
        """As for `watch`."""
        if not HAS_WORKERS:
            raise UsageError("on Windows the live page is not started by the run: `asyncrl watch RUN` in another terminal")
        check_installed()
        WatchedRuns(names)  # a run that does not exist is reported here
        address = open_address(port)
        self.url = address.url
        """The address, with its token."""
        request, write = os.pipe()
        with address.socket, open(write, "w", encoding="utf-8") as file:
            self._child = ChildProcess(__name__, [address.socket.fileno(), request])
            os.close(request)
            json.dump({"names": [str(name) for name in names], "token": address.token, "trust": trust}, file)

    def close(self) -> None:
        """End the server, after it has sent what the runs recorded last."""
        if self._child.poll() is None:
            os.kill(self._child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_TIMEOUT)
        self._child.kill()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def watch(
    *runs: Path | str | Sequence[Path | str], port: int | None = None, wait: bool = True, trust: bool = False
) -> Page | None:
    """Show runs on a live page, finished ones or ones in training.

    Args:
        runs: Run folders, folders of runs, or pretrained agents, also as one list; none is the folder `runs`.
        port: Port of 127.0.0.1; 0 is any free one, and None is 8765 or the next free one.
        wait: Whether to serve the page until Ctrl-C. Otherwise it is served by a separate process and returned:
            `page.url` is its address, and `page.close()`, the end of a `with` block or of this process ends it.
        trust: Run code that a run folder names, to let its agent play, even if someone else made the folder.

    Raises:
        UsageError: If a folder does not exist, `port` is in use, or starlette or uvicorn is not installed.
        SystemFault: If `port` is None and no port is free.

    >>> with asyncrl.watch("runs", wait=False) as page:
    ...     print(page.url)
    ...     asyncrl.train("CartPole-v1", "ppo")
    """
    names = run_names(*runs) or ("runs",)
    if not wait:
        return Page(names, port, trust=trust)
    check_installed()
    WatchedRuns(names)
    address = open_address(port)
    print(f"live page: {address.url}", flush=True)
    serve(names, address, trust=trust)
    return None


def main(listening: int, request: int) -> None:
    """Serve the page in a child process: the socket and the pipe with the request are inherited."""
    with open(request, encoding="utf-8") as file:
        asked = json.load(file)
    serve(asked["names"], Address(socket.socket(fileno=listening), asked["token"]), trust=asked["trust"])
