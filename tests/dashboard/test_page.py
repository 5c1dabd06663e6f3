"""The page in a real browser, beside a real training run."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl.dashboard import Page

SMALL: dict[str, Any] = dict(actors=2, envs_per_actor=4, engine="serial", eval_episodes=3, progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        asyncrl.train("CartPole-v1", "a3c", steps=2_000, seed=seed, run_dir=folder / f"seed-{seed}", **SMALL)
    return folder


@pytest.fixture(scope="module")
def page_of_runs(runs: Path) -> Iterator[Page]:
    with Page([runs]) as served:
        yield served


def test_curves_grow_while_a_run_trains(browse: Any, until: Any, tmp_path: Path) -> None:
    stops = threading.Event()

    def go_on(record: dict[str, Any]) -> asyncrl.Stop | None:
        return asyncrl.Stop("seen enough") if stops.is_set() else None

    def train() -> None:
        asyncrl.train(
            "CartPole-v1", "a3c", steps=50_000_000, log_every=500, run_dir=tmp_path / "run", callbacks=[go_on], **SMALL
        )

    thread = threading.Thread(target=train)
    with Page([tmp_path]) as served, browse(served.url) as page:
        until(page, "document.querySelector('#note').textContent.startsWith('There is no run in')")
        thread.start()
        try:
            until(page, "document.querySelector('#state').textContent === 'running'")
            until(page, "document.querySelector('#score canvas').getAttribute('aria-label').match(/run \\d/)")
            label = page.get_attribute("#score canvas", "aria-label")
            drawn = page.evaluate("document.querySelector('#score canvas').toDataURL()")
            until(page, f"document.querySelector('#score canvas').getAttribute('aria-label') !== {label!r}")
            until(page, f"document.querySelector('#score canvas').toDataURL() !== {drawn!r}")
        finally:
            stops.set()
            thread.join()
        until(page, "document.querySelector('#note').textContent.includes('seen enough')")
        assert page.text_content("#state") == "stopped"


def test_two_runs_are_drawn_over_one_another(browse: Any, until: Any, page_of_runs: Page) -> None:
    with browse(page_of_runs.url) as page:
        page.click("#runs summary")
        page.check("text=seed-1 >> xpath=ancestor::tr >> input[type=checkbox]")
        until(page, "document.querySelectorAll('#legend li').length === 2")
        until(
            page,
            "document.querySelector('#score canvas').getAttribute('aria-label').match(/seed-1.*seed-2|seed-2.*seed-1/)",
        )
        page.click("#legend >> text=seed-1")
        until(page, "document.querySelector('#name').textContent === 'seed-1'")
        assert re.search(r"#\d,\d$", page.url)


def test_a_curve_is_read_with_the_keyboard_alone(browse: Any, until: Any, page_of_runs: Page) -> None:
    with browse(page_of_runs.url) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.focus("#score canvas")
        page.keyboard.press("Home")
        assert re.match(r"Return at step \d+", page.get_attribute("#score canvas", "aria-label"))
        page.locator("#score .tip").first.wait_for()
        page.keyboard.press("Escape")
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.focus("#tab-episodes")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == "Checkpoints"
        page.wait_for_selector("#panel >> text=latest")


def test_the_page_fits_a_phone_in_the_dark(browse: Any, until: Any, page_of_runs: Page) -> None:
    phone = dict(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    with browse(page_of_runs.url, **phone) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 27)"


def test_every_control_has_a_name_for_screen_readers(browse: Any, until: Any, page_of_runs: Page) -> None:
    named = "one.ariaLabel || one.textContent.trim() || one.closest('label') || one.getAttribute('aria-labelledby')"
    controls = "[...document.querySelectorAll('button, input, select, canvas, [role]')]"
    nameless = f"{controls}.filter((one) => one.checkVisibility() && !({named})).map((one) => one.outerHTML)"
    with browse(page_of_runs.url) as page:
        until(page, "document.querySelector('#score canvas').getAttribute('aria-label').includes('seed')")
        page.click("#runs summary")
        assert page.evaluate(nameless) == []


def test_train_watch_serves_the_run_until_it_ends(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "asyncrl",
        "train",
        "random",
        "CartPole-v1",
        "--steps",
        "400",
        "--watch",
        "--run-dir",
        "run",
    ]
    done = subprocess.run(
        [*command, "--no-video", "--engine", "serial"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (url,) = re.findall(r"^live page: (http://127\.0\.0\.1:\d+/[\w-]{32}/)$", done.stdout, re.M)
    assert url.split("/")[3] not in (tmp_path / "run" / "log.txt").read_text(), "the token stays out of the run folder"
