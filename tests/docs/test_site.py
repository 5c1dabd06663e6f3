"""The documentation site is built without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import asyncrl

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*href=["']?(?:https?:)?//"""
)
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="pip install 'asyncrl[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'asyncrl[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert len(pages) > 20
    assert not [page.name for page in pages if LOADED.search(page.read_text(encoding="utf-8"))]
    assert not [style.name for style in styles if IN_STYLES.search(style.read_text(encoding="utf-8"))]


def test_every_public_name_is_in_the_api_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    values = {name: getattr(asyncrl, name) for name in asyncrl.__all__ if not name.startswith("__")}
    assert {f"{value.__module__}.{value.__qualname__}" for value in values.values()} <= documented


def test_a_phone_shows_every_equation_and_no_page_is_too_wide(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        for path in [site / "index.html", site / "concepts.html", *sorted(site.glob("algorithms/*.html"))]:
            page.goto(path.as_uri())
            complaints += page.locator(".katex-error").all_inner_texts()
            left = page.locator(".arithmatex:not(:has(.katex))").count()
            assert not left, f"{path.name}: {left} equations are not typeset"
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name
        browser.close()
    assert not complaints
