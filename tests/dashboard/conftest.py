"""A headless Chromium."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browse() -> Iterator[Callable[..., AbstractContextManager[Any]]]:
    """Opens an address as a page. When it is closed there must have been no error, and no request to another machine.

    With `server_ends`, requests may fail for want of a server. An agent plays only with `plays`: its process imports torch
    and draws for as long as the page is open.
    """
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)

        @contextmanager
        def opened(url: str, *, plays: bool = False, server_ends: bool = False, **context: Any) -> Iterator[Any]:
            problems, hosts = list[str](), set[str]()
            page = browser.new_context(**context).new_page()
            page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda asked: hosts.add(urlsplit(asked.url).netloc))
            if not plays:
                page.route("**/api/player/*/stream", lambda route: None)  # it gets no answer
            page.goto(url)
            yield page
            page.context.close()
            assert [one for one in problems if not (server_ends and "net::ERR_" in one)] == []
            assert hosts <= {urlsplit(url).netloc, ""}, "a request left the machine"

        yield opened
        browser.close()


@pytest.fixture(scope="module")
def until() -> Callable[[Any, str], None]:
    """Waits until a JavaScript expression is true in a page. (The page's policy forbids Playwright's own way.)"""

    def wait(page: Any, expression: str) -> None:
        deadline = time.monotonic() + 60
        while not page.evaluate(expression):
            assert time.monotonic() < deadline, f"it never came true: {expression}"
            page.wait_for_timeout(50)

    return wait
