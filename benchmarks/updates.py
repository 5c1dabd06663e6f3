"""Measure each algorithm's update: time on one core, memory, and end-to-end training.

    .venv/bin/python benchmarks/updates.py ALE/Pong-v5 --seconds 5

Runs `asyncrl bench` for each algorithm with its preset for the environment. Results go to
benchmarks/results/updates-ENV.json and, as a table, to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from asyncrl.algorithms import ALGORITHMS

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arguments:
    env: Annotated[str, tyro.conf.Positional]
    seconds: float = 5.0
    """Seconds per measurement."""
    algorithms: tuple[str, ...] = tuple(ALGORITHMS)


def measure(env: str, algorithm: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "asyncrl", "bench", env, "--algo", algorithm, "--seconds", str(seconds), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    found = {name: measure(asked.env, name, asked.seconds) for name in asked.algorithms}
    print("| algorithm | update | steps per update | memory | training |\n|---|---|---|---|---|")
    for name, report in found.items():
        rate = report["learning"]["steps_per_second"] / report["machine"]["cores"]
        memory, training = report["memory"]["pss_bytes"] / 2**20, report["end_to_end"]["steps_per_second"]
        took = report["update_seconds"]
        print(f"| {name} | {1e3 * took:.1f} ms | {rate * took:,.0f} | {memory:,.0f} MiB | {training:,.0f} steps/s |")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"updates-{asked.env.replace('/', '-')}.json"
    file.write_text(json.dumps({"command": " ".join(sys.argv), "algorithms": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
