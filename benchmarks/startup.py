"""Measure the time that commands take to start.

    .venv/bin/python benchmarks/startup.py --repeats 5

A training starts when metrics.jsonl has the record of the first update: that includes imports, forks, environments and
the first rollouts. Every round starts each of them once; the first one, which compiles modules, is not counted. With
`--against CHECKOUT` an earlier version is started in turns with this one. Results go to benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from asyncrl.runs.provenance import machine

HERE = Path(__file__).parent.parent
RESULTS = HERE / "benchmarks" / "results"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of the commands; compiled modules are kept, as those of an installed package are."""


@dataclass(frozen=True)
class Arguments:
    repeats: int = 5
    """Starts of each; the median is reported."""
    against: Path | None = None
    """The folder of another version."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    asked: float
    """The most seconds that were asked for."""
    seconds: list[float]
    before: list[float]
    """Of the other version."""


def seconds_of(*words: str, version: Path) -> float:
    """Run Python once, to its end."""
    began = time.monotonic()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT, cwd=version)
    return time.monotonic() - began


def seconds_to_first_update(env: str, *options: str, version: Path) -> float:
    """Start a training once; it is stopped after its first update."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        line = ["train", "a3c", env, "--run-dir", str(metrics.parent), "--eval-episodes", "0", "--quiet", "--no-video"]
        command = [sys.executable, "-m", "asyncrl", *line, *options]
        began = time.monotonic()
        quiet: dict[str, Any] = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run = subprocess.Popen(command, **quiet, env=ENVIRONMENT, cwd=version)
        while not (metrics.is_file() and '"kind": "train"' in metrics.read_text()):
            if run.poll() is not None:
                raise SystemExit(f"the run ended with {run.returncode} before its first update")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        run.terminate()
        run.wait()
    return seconds


STARTS: dict[str, tuple[float, Callable[..., float]]] = {
    "import asyncrl": (0.2, partial(seconds_of, "-c", "import asyncrl")),
    "asyncrl --help": (0.3, partial(seconds_of, "-m", "asyncrl", "--help")),
    "asyncrl train a3c CartPole-v1": (2.0, partial(seconds_to_first_update, "CartPole-v1")),
    "asyncrl train a3c CartPole-v1 --engine processes": (
        2.0,
        partial(seconds_to_first_update, "CartPole-v1", "--engine", "processes"),
    ),
    "asyncrl train a3c ALE/Pong-v5": (2.0, partial(seconds_to_first_update, "ALE/Pong-v5")),
}
"""What is started, by name: the most seconds that were asked for, and how to measure it."""


def measure(asked: Arguments) -> list[Row]:
    rows = [Row(what, most, [], []) for what, (most, _) in STARTS.items()]
    for number in range(asked.repeats + 1):
        for row in rows:
            for version, into in ((asked.against, row.before), (HERE, row.seconds)):
                if version is not None:
                    seconds = STARTS[row.what][1](version=version)
                    into += [round(seconds, 2)] if number else []
    return rows


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    rows = measure(asked)
    print(f"{'start':<50}{'asked':>7}{'median':>8}   all")
    for row in rows:
        before = f" (before: {statistics.median(row.before):.2f}s, {row.before})" if row.before else ""
        print(f"{row.what:<50}{row.asked:>6.1f}s{statistics.median(row.seconds):>7.2f}s   {row.seconds}{before}")
    report = {
        "command": " ".join(sys.argv),
        "machine": machine(),
        "rows": [asdict(row) | {"median": statistics.median(row.seconds)} for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "startup.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
