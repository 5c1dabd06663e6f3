"""The players of the page: a process per watched run, its pictures as a stream, its commands by POST.

The stream is a response without end; each message in it is one of `messages`. A process starts with the first page that
opens the stream and ends some seconds after the last has closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncrl.common.child_process import ChildProcess, describe_exit_code
from asyncrl.dashboard.feed import encoded
from asyncrl.dashboard.player.episodes import recorded_episodes
from asyncrl.dashboard.player.messages import HEADER, LARGEST, pack
from asyncrl.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["MAX_PLAYERS", "Player", "Players"]

MAX_PLAYERS = 4
"""Players at the same time."""
_LINGER = 5.0
"""Seconds for which a player goes on without a page, which may be reloading."""
_POLL = 1.0
"""Seconds between checks whether the server is about to stop."""
_LARGEST_COMMAND = 4096
"""Bytes."""
_LOWEST_PRIORITY = 19
"""Of a player, even while it loads: training goes first wherever both want a core."""


class Player:
    """The process in which one run's agent plays, and the pages that watch it."""

    def __init__(self, name: str, *, trust: bool) -> None:
        self._name, self._trust = name, trust
        self._process: ChildProcess | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._pages: set[_Page] = set()
        self._newest: dict[str, bytes] = {}
        """The newest message of each kind, for pages that come later."""

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def is_watched(self) -> bool:
        return bool(self._pages)

    async def start(self) -> None:
        """Start the process unless it runs. Raises UsageError on Windows."""
        if self._process is not None:
            return
        own, other = socket.socketpair()
        with other:
            self._process = ChildProcess("asyncrl.dashboard.player.process", [other.fileno()])
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _LOWEST_PRIORITY)
        own.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=own)
        self._newest.clear()
        self._writer.write(pack({"run": self._name, "trust": self._trust}))
        self._reading = asyncio.create_task(self._read(reader))

    async def messages(self, is_ending: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield the player's messages until its process ends; a page that is slow gets the newest of each kind."""
        page = _Page(dict(self._newest))
        self._pages.add(page)
        try:
            while not (is_ending() or (page.ended and not page.waiting)):
                waiting, page.waiting = page.waiting, {}
                for message in waiting.values():
                    yield message
                if not page.waiting and not page.ended:
                    page.news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(page.news.wait(), _POLL)
        finally:
            self._pages.discard(page)

    def send(self, command: dict[str, Any]) -> None:
        """Send a command; without a process it is lost."""
        if self._writer is not None:
            self._writer.write(pack(command))

    def stop(self) -> None:
        """Kill the process; the pages' streams end."""
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.kill()
        self._process = self._writer = self._reading = None
        for page in self._pages:
            page.ended = True
            page.news.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        refused = False
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(HEADER.size)
                length, attached = HEADER.unpack(header)
                if length + attached > LARGEST:
                    break
                body = await reader.readexactly(length + attached)
                kind = str(json.loads(body[:length])["kind"])
                refused = kind == "refused"
                self._broadcast(kind, header + body)
        if not refused:
            self._broadcast("refused", pack({"kind": "refused", "message": self._ending()}))
        self._reading = None
        self.stop()

    def _ending(self) -> str:
        """Return why the process ended by itself."""
        assert self._process is not None
        what = "does not answer"
        with contextlib.suppress(subprocess.TimeoutExpired):
            what = "ended ({}{})".format(*describe_exit_code(self._process.wait(2.0)))
        return f"The player's process {what}; the run itself is not affected. “Watch it play” starts it again."

    def _broadcast(self, kind: str, message: bytes) -> None:
        self._newest[kind] = message
        for page in self._pages:
            page.waiting[kind] = message
            page.news.set()


class _Page:
    """What a page that watches has not been sent yet."""

    def __init__(self, waiting: dict[str, bytes]) -> None:
        self.waiting = waiting
        """The newest message of each kind."""
        self.news = asyncio.Event()
        self.ended = False


class Players:
    """The players of all runs on the page, and the routes that reach them. A player ends with this process."""

    def __init__(
        self, find: Callable[[str], Path | None], *, trust: bool = False, is_ending: Callable[[], bool] = lambda: False
    ) -> None:
        """`find` returns the folder of the run with an id, or None; `is_ending`, whether the server is about to stop."""
        self._find, self._trust, self._is_ending = find, trust, is_ending
        self._players: dict[str, Player] = {}

    def routes(self) -> list[Route]:
        """Return the routes; the application that mounts them checks the token."""
        from starlette.routing import Route

        return [
            Route("/api/player/{run}/stream", self._stream),
            Route("/api/player/{run}/episodes", self._episodes),
            Route("/api/player/{run}/command", self._command, methods=["POST"]),
        ]

    async def _stream(self, request: Request) -> Response:
        from starlette.responses import StreamingResponse

        name = request.path_params["run"]
        folder = self._find(name)
        if folder is None:
            return _refusal(404, f"there is no run {name!r}")
        player = self._players.get(name)
        running = [one for one in self._players.values() if one.is_running]
        if (player is None or not player.is_running) and len(running) >= MAX_PLAYERS:
            return _refusal(409, f"{MAX_PLAYERS} agents play already; stop one of them first")
        player = self._players.setdefault(name, Player(str(folder), trust=self._trust))
        try:
            await player.start()
        except UsageError as problem:
            return _refusal(409, str(problem))
        return StreamingResponse(self._watched(player), media_type="application/octet-stream", headers=_NO_CACHE)

    async def _watched(self, player: Player) -> AsyncIterator[bytes]:
        try:
            async for message in player.messages(self._is_ending):
                yield message
        finally:
            asyncio.get_running_loop().call_later(_LINGER, self._stop_unwatched, player)

    @staticmethod
    def _stop_unwatched(player: Player) -> None:
        if not player.is_watched:
            player.stop()

    async def _command(self, request: Request) -> Response:
        from starlette.responses import Response

        player = self._players.get(request.path_params["run"])
        if player is None or not player.is_running:
            return _refusal(409, "the agent does not play: open its stream first")
        body = await request.body()
        try:
            command = json.loads(body) if len(body) <= _LARGEST_COMMAND else None
        except (ValueError, RecursionError):
            command = None
        if not isinstance(command, dict):
            return _refusal(400, 'a command is a JSON object, such as {"pause": true}')
        player.send(command)
        return Response(status_code=204)

    async def _episodes(self, request: Request) -> Response:
        from starlette.responses import Response

        name = request.path_params["run"]
        folder = self._find(name)
        if folder is None:
            return _refusal(404, f"there is no run {name!r}")
        try:
            found = await asyncio.to_thread(recorded_episodes, Path(folder))
        except (CheckpointError, OSError) as problem:
            return _refusal(404, str(problem))
        return Response(encoded(found), media_type="application/json", headers=_NO_CACHE)


_NO_CACHE = {"Cache-Control": "no-store"}


def _refusal(status: int, sentence: str) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": sentence}, status, headers=_NO_CACHE)
