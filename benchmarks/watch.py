"""Measure the live page: what it costs training, its first paint, and a metrics.jsonl of 1 GB.

    .venv/bin/python benchmarks/watch.py --out benchmarks/results/watch.json

`slowdown` trains with and without the page open in headless Chromium, in turns, each run in a process of its own; its rate
is read from `metrics.jsonl`, from the first to the last recorded update. `paint` opens a run of ten million steps, `big`
a file of 1 GB; both are synthetic. `--no-player`: the agent does not play on the page that `slowdown` opens.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from asyncrl.dashboard import Page
from asyncrl.runs.metrics.follower import records_of
from asyncrl.runs.provenance import machine

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TRAIN = ["a3c", "CartPole-v1", "--actors", "2", "--envs-per-actor", "8", "--engine", "serial", "--eval-episodes", "0"]
TRAIN += ["--checkpoint-every", "100000000", "--no-video", "--quiet"]
DRAWN = """new Promise((done) => {
  const look = () => document.querySelector("#score canvas").ariaLabel?.match(/\\d/) ? done(performance.now())
    : setTimeout(look, 5);
  look();
})"""


@dataclass(frozen=True)
class Arguments:
    what: tyro.conf.Positional[tuple[str, ...]] = ("slowdown", "paint", "big")
    pairs: int = 5
    steps: int = 200_000
    player: bool = True
    gigabytes: float = 1.0
    out: Path | None = None


@contextlib.contextmanager
def chromium(url: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        page.goto(url)
        yield page
        browser.close()


def train(folder: Path, steps: int) -> float:
    """Steps per second of a run in another process."""
    command = [sys.executable, "-m", "asyncrl", "train", *TRAIN, "--steps", str(steps), "--run-dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    records = list(records_of(folder / "metrics.jsonl", "train"))
    return float((records[-1]["step"] - records[0]["step"]) / (records[-1]["time"] - records[0]["time"]))


def slowdown(arguments: Arguments) -> dict[str, Any]:
    """The speed of training with the page open, divided by that without it."""
    pairs = []
    for turn in range(arguments.pairs):
        found = {}
        for is_open in (False, True) if turn % 2 == 0 else (True, False):
            with tempfile.TemporaryDirectory() as temporary:
                runs = Path(temporary)
                if not is_open:
                    found[is_open] = train(runs / "run", arguments.steps)
                    continue
                with Page([runs]) as page, chromium(page.url) as tab:
                    if not arguments.player:
                        tab.route("**/api/player/**", lambda route: route.abort())
                    result: list[float] = []
                    thread = threading.Thread(
                        target=lambda to=result, at=runs: to.append(train(at / "run", arguments.steps))
                    )
                    thread.start()
                    while thread.is_alive():
                        tab.wait_for_timeout(200)
                    found[is_open] = result[0]
        pairs.append((found[False], found[True]))
        print(f"without {found[False]:,.0f}, with the page {found[True]:,.0f} steps/s", flush=True)
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"training with the page open: {ratio:.3f} of the speed without it, median of {len(pairs)} pairs")
    return {"player": arguments.player, "ratio": ratio, "pairs": pairs}


def write_run(folder: Path, steps: int, size: float) -> Path:
    """A synthetic run of so many steps, whose metrics take about `size` bytes."""
    folder.mkdir()
    config = {"env": "CartPole-v1", "algorithm": {"name": "a3c"}, "steps": steps, "seed": 1}
    (folder / "config.json").write_text(json.dumps({"config": config, "contract": {}}))
    fields = {
        "steps_per_second": 1000.0,
        "queue_fill": 0.5,
        "policy_lag": 1.0,
        "waiting_share": 0.4,
        "loss": 0.1,
        "entropy": 0.6,
    }
    episodes = max(1, int(size / 130 / 4000))
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for record in range(1, 4001):
            step = steps * record // 4000
            common = {"step": step, "update": step // 160, "time": round(step / 1000, 3)}
            height = 100 * (1 - math.exp(-3 * step / steps))
            head = json.dumps(common)[:-1]
            ends = [
                f', "kind": "episode", "return": {random.gauss(height, 20):.2f}, "length": {n}, "actor": 0, "env": 3}}\n'
                for n in range(10, 510)
            ]
            file.writelines(head + random.choice(ends) for _ in range(episodes))
            file.write(json.dumps({**common, "kind": "train", "mean_return": height, **fields}) + "\n")
    return folder


def paint(arguments: Arguments) -> dict[str, Any]:
    """Seconds to the first paint and to the curve of a run of ten million steps, medians of five visits."""
    with tempfile.TemporaryDirectory() as temporary:
        run = write_run(Path(temporary) / "run", 10_000_000, 10_000_000 / 200 * 130)
        with Page([run]) as page, chromium("about:blank") as tab:
            visits = []
            for _ in range(6):
                tab.goto(page.url)
                curve = tab.evaluate(DRAWN)
                first = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                visits.append((first / 1000, curve / 1000))
    first, curve = (statistics.median(column) for column in zip(*visits[1:], strict=True))
    print(f"first paint after {first:.2f} s, the curve after {curve:.2f} s")
    return {"first_paint_seconds": first, "curve_seconds": curve, "visits": visits}


def big(arguments: Arguments) -> dict[str, Any]:
    """Seconds until a page has the curves of a large file, and the memory of its server."""
    import psutil

    with tempfile.TemporaryDirectory() as temporary:
        run = write_run(Path(temporary) / "run", 100_000_000, arguments.gigabytes * 1e9)
        size = (run / "metrics.jsonl").stat().st_size
        with Page([run]) as page, chromium("about:blank") as tab:
            (server,) = (one for one in psutil.Process().children() if "dashboard" in " ".join(one.cmdline()))
            began = time.monotonic()
            tab.goto(page.url)
            tab.evaluate(DRAWN)
            while (tab.text_content("#note") or "").startswith("Reading"):
                tab.wait_for_timeout(50)
            seconds, memory, used = time.monotonic() - began, server.memory_info().rss, server.cpu_times()
            tab.wait_for_timeout(10_000)  # the best and worst episodes are found meanwhile
            memory = max(memory, server.memory_info().rss)
    cpu = used.user + used.system
    print(f"{size / 1e9:.2f} GB: open after {seconds:.1f} s and {cpu:.1f} s of CPU time, {memory / 1e6:.0f} MB of memory")
    return {"bytes": size, "seconds": seconds, "cpu_seconds": cpu, "memory_bytes": memory}


def main() -> None:
    arguments = tyro.cli(Arguments)
    measures = {"slowdown": slowdown, "paint": paint, "big": big}
    found = {name: measures[name](arguments) for name in arguments.what}
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
