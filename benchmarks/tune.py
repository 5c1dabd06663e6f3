"""Measure what a tuning study reaches, and how long it takes.

    .venv/bin/python benchmarks/tune.py ppo CartPole-v1 --trials 20

Runs `asyncrl tune` with its defaults in a new folder. Reported are the best trial, its settings with other seeds, and the
wall time of the whole command. Results go to benchmarks/results/tune-ALGO-ENV.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

import asyncrl
from asyncrl.common.serialization import to_json
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arguments:
    algorithm: str
    env: str
    trials: int = 20
    steps: int | None = None
    """Length of each trial; None is the preset's."""


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.PositionalRequiredArgs,))
    settings = {} if asked.steps is None else {"steps": asked.steps}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncrl.tune(
            asked.env, asked.algorithm, trials=asked.trials, folder=Path(folder) / "study", say=print, **settings
        )
        report = {
            "command": " ".join(sys.argv),
            "machine": machine(),
            "seconds": round(time.monotonic() - began, 1),
            "score": result.best.score,
            "over_seeds": None if result.over_seeds is None else result.over_seeds._asdict(),
            "trials": [to_json(trial) for trial in result.trials],
            "importances": result.importances,
        }
    name = f"tune-{asked.algorithm}-{asked.env}.json"
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n")
    print(f"best score {result.best.score} after {report['seconds']} s; over other seeds {report['over_seeds']}")


if __name__ == "__main__":
    main()
