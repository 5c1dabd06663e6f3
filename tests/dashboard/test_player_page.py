"""The player's panel in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl.api import configure
from asyncrl.launch import start

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'asyncrl[test]'")
pytest.importorskip("uvicorn", reason="pip install 'asyncrl[watch]'")

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def browser_page() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"the page is tested in {CHROMIUM}, which is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield browser.new_page()
        browser.close()


def test_the_agent_plays_on_the_page_and_obeys_the_keyboard(browser_page: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=2, t_max=5, engine="serial", eval_episodes=2)
    run, _ = start(configure("CartPole-v1", "a3c", **settings), tmp_path / "run")
    problems: list[str] = []
    browser_page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    browser_page.on("pageerror", lambda problem: problems.append(str(problem)))
    with asyncrl.watch(run.path, port=0, wait=False) as page:
        assert page is not None
        browser_page.goto(page.url)
        panel = browser_page.locator("#player .panel")
        panel.locator(".bar").first.wait_for(timeout=60_000)
        canvas = "document.querySelector('#player canvas.game').toDataURL()"
        first = browser_page.evaluate(canvas)
        browser_page.wait_for_function(f"first => {canvas} !== first", arg=first, timeout=60_000)
        facts = panel.locator(".facts")
        panel.focus()
        browser_page.keyboard.press("Space")
        panel.get_by_text("▶ Play").wait_for(timeout=30_000)
        browser_page.keyboard.press("n")
        facts.get_by_text("step 0", exact=True).wait_for(timeout=30_000)
        browser_page.keyboard.press("ArrowRight")
        facts.get_by_text("step 1", exact=True).wait_for(timeout=30_000)
        browser_page.keyboard.press("s")
        panel.get_by_text("sensitivity", exact=True).wait_for(timeout=30_000)
        panel.get_by_text("Episodes and checkpoints").click()
        panel.get_by_text("Best evaluation episodes").wait_for(timeout=30_000)
    assert not [problem for problem in problems if "ERR_" not in problem]
