"""Watches an agent play, for tests, without a server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncrl.dashboard.player.messages import pack, unpack
from asyncrl.dashboard.player.viewer import Viewer

Message = dict[str, Any]


class Watcher:
    """Reads the messages of a player and sends it commands, as the page does."""

    def __init__(self, read: Callable[[int], bytes], send: Callable[[Message], None]) -> None:
        self._read, self._send = read, send
        self.picture = b""
        """Of the newest frame."""

    def until(self, wanted: Callable[[Message], Any], seconds: float = 60.0) -> Message:
        """Return the next message that is wanted. Fails if none comes."""
        last: Message = {}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = unpack(self._read)
            assert found is not None, f"the stream ended after {last}"
            last, attachment = found
            if last["kind"] == "frame":
                self.picture = attachment
            if wanted(last):
                return last
        raise AssertionError(f"no such message within {seconds} s; the last was {last}")

    def frame(self, wanted: Callable[[Message], Any] = lambda message: True) -> Message:
        """Return the next message with a picture that is wanted."""
        return self.until(lambda message: message["kind"] == "frame" and wanted(message))

    def first_step(self) -> Message:
        """Begin an episode, and return the picture of its first step.

        At the highest speed, an episode of a few steps may have no other picture than its first and its last.
        """
        self.frame()
        self.command(pause=True)
        self.until(lambda message: message["kind"] == "state" and message["paused"])
        self.command(new=True, step=True)
        assert self.frame()["step"] == 0
        return self.frame()

    def notice(self) -> str:
        """Return the next sentence."""
        found = self.until(lambda message: message["kind"] == "notice" and message["message"])
        return str(found["message"])

    def command(self, **command: Any) -> None:
        """Send a command."""
        self._send(command)


@contextmanager
def viewing(name: str | Path, *, trust: bool = False) -> Iterator[Watcher]:
    """Let an agent play in a thread of this process, at the highest speed."""
    own, other = socket.socketpair()
    with own, other, own.makefile("rb") as file:
        own.settimeout(60)
        viewer = Viewer(str(name), other, trust=trust)

        def play() -> None:
            viewer.run()
            other.shutdown(socket.SHUT_RDWR)

        own.sendall(pack({"speed": 0}))
        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield Watcher(file.read, lambda command: own.sendall(pack(command)))
        finally:
            own.shutdown(socket.SHUT_WR)
            while file.read(2**16):  # the viewer may wait for room
                pass
            thread.join()
