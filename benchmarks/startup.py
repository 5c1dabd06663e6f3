"""Measure the time from the command to the first update.

    .venv/bin/python benchmarks/startup.py ALE/Pong-v5 --repeats 5

Starts `asyncrl train a3c ENV` with actors in processes and takes the time from the start of the process until
metrics.jsonl has the record of the first update. It includes imports, forks, environments and the first rollouts.
Results go to benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from asyncrl.runs.config import EngineKind
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arguments:
    env: str
    """Environment id."""
    engine: EngineKind = EngineKind.PROCESSES
    """Where actors run."""
    repeats: int = 5
    """Starts; the median is reported."""


def seconds_to_first_update(asked: Arguments, folder: Path) -> float:
    """Start once; the run is stopped after its first update."""
    options = ["--engine", asked.engine.value, "--eval-episodes", "0", "--quiet", "--no-video"]
    command = [sys.executable, "-m", "asyncrl", "train", "a3c", asked.env, "--run-dir", str(folder), *options]
    metrics = folder / "metrics.jsonl"
    began = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (metrics.is_file() and '"kind": "train"' in metrics.read_text()):
        if run.poll() is not None:
            raise SystemExit(f"the run ended with {run.returncode} before its first update")
        time.sleep(0.01)
    seconds = time.monotonic() - began
    run.terminate()
    run.wait()
    return seconds


def main() -> None:
    asked = tyro.cli(
        Arguments, description=__doc__, config=(tyro.conf.PositionalRequiredArgs, tyro.conf.EnumChoicesFromValues)
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = [round(seconds_to_first_update(asked, Path(folder) / str(i)), 2) for i in range(asked.repeats)]
    median = statistics.median(seconds)
    report = {"command": " ".join(sys.argv), "machine": machine(), "seconds": seconds, "median": median}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "startup.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{asked.env}, engine {asked.engine.value}: first update after {median:.1f} s (median of {seconds})")


if __name__ == "__main__":
    main()
