"""A client of the page's players, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from asyncrl.dashboard.player.messages import unpack

Message = dict[str, Any]


class Watcher:
    """Reads the messages of a player, as the page does."""

    def __init__(self, base: str, response: httpx.Response) -> None:
        self._base = base
        self._chunks = response.iter_bytes()
        self._data = b""
        self.picture = b""
        """Of the newest frame."""

    def _read(self, count: int) -> bytes:
        while len(self._data) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                return b""
            self._data += chunk
        found, self._data = self._data[:count], self._data[count:]
        return found

    def until(self, wanted: Callable[[Message], Any], seconds: float = 60.0) -> Message:
        """Return the next message that is wanted. Fails if none comes."""
        last: Message = {}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = unpack(self._read)
            assert found is not None, f"the stream ended after {last}"
            last = found[0]
            if last["kind"] == "frame":
                self.picture = found[1]
            if wanted(last):
                return last
        raise AssertionError(f"no such message within {seconds} s; the last was {last}")

    def frame(self, wanted: Callable[[Message], Any] = lambda message: True) -> Message:
        """Return the next picture's message that is wanted."""
        return self.until(lambda message: message["kind"] == "frame" and wanted(message))

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert httpx.post(f"{self._base}/command", json=command).status_code == 204


@contextmanager
def watching(url: str, run: int = 0) -> Iterator[Watcher]:
    """Let the agent of a run on the page at `url` play."""
    base = f"{url}api/player/{run}"
    with httpx.stream("GET", f"{base}/stream", timeout=60) as response:
        assert response.status_code == 200, response.read()
        yield Watcher(base, response)
