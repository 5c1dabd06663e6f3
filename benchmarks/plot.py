"""Measure how long `asyncrl plot` takes for many runs.

    .venv/bin/python benchmarks/plot.py --runs 30

The runs have the metrics of a pretrained agent and differ in their seed and, every third of them, in a setting. Timed is
the whole command, imports included; on a busy machine its processor time says more. Results go to
benchmarks/results/plot.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from asyncrl.runs.names import PRETRAINED
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"
SOURCE = PRETRAINED / "pong-a3c"


@dataclass(frozen=True)
class Arguments:
    runs: int = 30
    what: str = "returns"
    repeats: int = 3


def make_runs(folder: Path, count: int) -> None:
    config = json.loads((SOURCE / "manifest.json").read_text())["config"]
    for number in range(count):
        run = folder / f"{number:02}"
        run.mkdir()
        changed = {**config, "seed": number, "lag": number % 3}
        (run / "config.json").write_text(json.dumps({"config": changed}))
        shutil.copy(SOURCE / "metrics.jsonl", run / "metrics.jsonl")


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), asked.runs)
        command = [sys.executable, "-m", "asyncrl", "plot", folder, "--what", asked.what, "--out", f"{folder}/plot.png"]
        seconds, computing = [], []
        for _ in range(asked.repeats):
            began, used = time.monotonic(), cpu_seconds()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(round(time.monotonic() - began, 2))
            computing.append(round(cpu_seconds() - used, 2))
    report = {"command": " ".join(sys.argv), "machine": machine(), "runs": asked.runs}
    report |= {"seconds": seconds, "cpu_seconds": computing}
    (RESULTS / "plot.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{asked.runs} runs, {asked.what}: {seconds} s, of which {computing} s on a core")


def cpu_seconds() -> float:
    """Processor time of the child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
