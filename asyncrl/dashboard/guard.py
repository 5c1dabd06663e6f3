"""Who may see the page: requests for this host that know the token."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Guard"]

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that answers 403 unless the path begins with the token and the request is for this host.

    The `Host` header must name 127.0.0.1 or localhost with the server's port, so that another site's name that resolves
    to this machine is refused (DNS rebinding), and so must `Origin`, if there is one. No CORS header is ever sent.
    """

    def __init__(self, app: App, *, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {f"{host}:{port}".encode() for host in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if (problem := self._problem(scope)) is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": problem})  # before accepting: 403
                return
            await _answer(send, problem)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded()]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _problem(self, scope: Message) -> str | None:
        """Why a request is refused; None if it is not."""
        headers = dict(scope["headers"])
        if headers.get(b"host", b"").lower() not in self._hosts:
            return "this page is only for the machine that it runs on: open it as 127.0.0.1"
        origin = headers.get(b"origin")
        if origin is not None and origin.removeprefix(b"http://").lower() not in self._hosts:
            return "this page answers only to itself"
        given = str(scope["path"]).strip("/").partition("/")[0].encode()
        if not secrets.compare_digest(given, self._token):
            return "the token in the address is missing or wrong: open the address that `asyncrl watch` printed"
        return None


async def _answer(send: Any, problem: str) -> None:
    plain = [(b"content-type", b"text/plain; charset=utf-8"), *_encoded()]
    await send({"type": "http.response.start", "status": 403, "headers": plain})
    await send({"type": "http.response.body", "body": f"403: {problem}\n".encode()})


def _encoded() -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
