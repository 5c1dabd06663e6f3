"""The player's panel in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl.api import configure
from asyncrl.launch import start

pytest.importorskip("uvicorn", reason="pip install 'asyncrl[watch]'")
CANVAS = "document.querySelector('#player canvas.game').toDataURL()"


def test_the_agent_plays_on_the_page_and_obeys_the_keyboard(
    browse: Callable[..., Any], until: Callable[[Any, str], None], tmp_path: Path
) -> None:
    settings: dict[str, Any] = dict(steps=80, actors=1, envs_per_actor=2, t_max=5, engine="serial", eval_episodes=2)
    run, _ = start(configure("CartPole-v1", "a3c", **settings), tmp_path / "run")
    with asyncrl.watch(run.path, port=0, wait=False) as page, browse(page.url, plays=True) as seen:
        panel = seen.locator("#player .panel")
        facts = panel.locator(".facts")
        panel.locator(".bar").first.wait_for(timeout=60_000)
        first = seen.evaluate(CANVAS)
        until(seen, f"{CANVAS} !== {first!r}")
        panel.focus()
        seen.keyboard.press("Space")
        panel.get_by_text("▶ Play").wait_for()
        seen.keyboard.press("n")
        facts.get_by_text("step 0", exact=True).wait_for()
        seen.keyboard.press("ArrowRight")
        facts.get_by_text("step 1", exact=True).wait_for()
        seen.keyboard.press("s")
        panel.get_by_text("sensitivity", exact=True).wait_for()
        panel.get_by_text("Episodes and checkpoints").click()
        panel.get_by_text("Best evaluation episodes").wait_for()
        panel.get_by_role("button", name="Stop").click()
        panel.get_by_role("button", name="Watch it play").wait_for()
