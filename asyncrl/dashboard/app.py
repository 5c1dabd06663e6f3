"""The routes of the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from asyncrl.dashboard import feed
from asyncrl.dashboard.guard import App, Guard
from asyncrl.dashboard.player.players import Players
from asyncrl.dashboard.watched import WatchedRun, WatchedRuns

__all__ = ["make_app"]

PAGE = Path(__file__).parent / "page"
_SECONDS = 1.0
"""Seconds between checks of the runs that a page shows."""
_QUIET = 15
"""Checks without news after which a comment keeps the connection open."""


def make_app(
    runs: WatchedRuns, *, token: str, port: int, trust: bool = False, is_ending: Callable[[], bool] = lambda: False
) -> App:
    """The ASGI application, for paths that begin with the token.

    `trust`: whether agents may play that need code which a folder of someone else names. `is_ending`: whether the server
    is about to stop, so that streams end.
    """
    players = Players(runs.folder, trust=trust, is_ending=is_ending)

    def found(request: Request) -> WatchedRun:
        run = runs.get(request.path_params["run"])
        if run is None:
            raise HTTPException(404, f"there is no run {request.path_params['run']}")
        return run

    def list_runs(request: Request) -> Response:
        runs.refresh()
        return _json({"runs": [run.summary() for run in runs], "note": runs.note})

    def run_facts(request: Request) -> Response:
        run = found(request)
        run.read()
        return _json({**run.summary(), **run.facts()})

    def run_curves(request: Request) -> Response:
        run = found(request)
        run.read()
        return _json(feed.curves(run))

    def run_episodes(request: Request) -> Response:
        run = found(request)
        run.read()
        return _json(feed.episodes(run))

    async def events(request: Request) -> Response:
        shown = [number for number in request.query_params.get("runs", "").split(",") if number]
        stream = _stream(feed.Feed(runs, shown), is_ending)
        return StreamingResponse(stream, media_type="text/event-stream")

    routes = [
        Route("/api/runs", list_runs),
        Route("/api/runs/{run}", run_facts),
        Route("/api/runs/{run}/curves", run_curves),
        Route("/api/runs/{run}/episodes", run_episodes),
        Route("/api/events", events),
        *players.routes(),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Guard(Starlette(routes=[Mount(f"/{token}", routes=routes)]), token=token, port=port)


def _json(value: object) -> Response:
    return Response(feed.encoded(value), media_type="application/json")


async def _stream(messages: feed.Feed, is_ending: Callable[[], bool]) -> AsyncIterator[str]:
    """Server-sent events, each one JSON object, until the page or the server goes."""
    quiet, ends = 0, False
    while not ends:
        ends = is_ending()  # what was recorded last is still sent
        news = await run_in_threadpool(lambda: [feed.encoded(message) for message in messages.messages()])
        quiet = 0 if news else quiet + 1
        for one in news:
            yield f"data: {one}\n\n"
        if quiet >= _QUIET:
            quiet = 0
            yield ": still here\n\n"
        until = time.monotonic() + (0.01 if messages.is_behind else _SECONDS)
        while not is_ending() and time.monotonic() < until:
            await asyncio.sleep(0.05 if until - time.monotonic() > 0.05 else 0.01)
    yield 'data: {"end":true}\n\n'
