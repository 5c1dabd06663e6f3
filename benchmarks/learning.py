"""Train with a preset over several seeds, and evaluate each run.

    .venv/bin/python benchmarks/learning.py a3c CartPole-v1 --seeds 5 --target 475
    .venv/bin/python benchmarks/learning.py a3c ALE/Pong-v5 --target 18

Each seed is one call of `asyncrl train` with the preset's settings and `--options`, and one of `asyncrl evaluate`, which
scores the best agent over 100 unseen episodes. Seconds are wall time, of training alone and of the whole command with
start-up and evaluations. Results go to benchmarks/results/learning-ALGO-ENV.json and, as a table, to standard output.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"
UNSEEN = "1000003"
"""Seed of the episodes over which the best agent is scored."""


@dataclass(frozen=True)
class Arguments:
    algorithm: Annotated[str, tyro.conf.Positional]
    env: Annotated[str, tyro.conf.Positional]
    target: float
    """The mean return that counts as learned."""
    seeds: int = 1
    """Seeds 1 … N, one run each."""
    options: str = ""
    """More options for `asyncrl train`, as one string."""


def command(*words: str) -> str:
    """The output of `asyncrl` with these arguments."""
    return subprocess.run([sys.executable, "-m", "asyncrl", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def train(asked: Arguments, seed: int, folder: Path) -> dict[str, Any]:
    """Train once; returns the last evaluation and the score of the best agent."""
    began = time.monotonic()
    how = ["--seed", str(seed), "--run-dir", str(folder), "--quiet", "--no-video", *shlex.split(asked.options)]
    command("train", asked.algorithm, asked.env, *how)
    seconds = time.monotonic() - began
    kept = json.loads(command("evaluate", str(folder), "--episodes", "100", "--seed", UNSEEN, "--json"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    score = next(r for r in reversed(records) if r["kind"] == "eval")
    last = next(r for r in reversed(records) if r["kind"] == "train")
    rates = [r["steps_per_second"] for r in records if r["kind"] == "train"]
    return {
        "seed": seed,
        **{name: score[name] for name in ("mode", "mean", "std", "median", "iqm", "iqm_interval", "episodes", "step")},
        "training_seconds": last["time"],
        "command_seconds": round(seconds, 1),
        "steps_per_second": statistics.median(rates),
        "kept": kept["mean"],
        "kept_step": kept["step"],
        "learned": kept["mean"] >= asked.target,
    }


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        runs = [train(asked, seed, Path(folder) / str(seed)) for seed in range(1, asked.seeds + 1)]
    report = {"command": " ".join(sys.argv), "target": asked.target, "machine": machine(), "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"learning-{asked.algorithm}-{asked.env.replace('/', '-')}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    print("| seed | steps | mean return | median | IQM (95 %) | kept (of step) | training | whole command |")
    print("|---" * 8 + "|")
    for r in runs:
        iqm = "{:.1f} ({:.1f} … {:.1f})".format(r["iqm"], *r["iqm_interval"])
        score = f"| {r['seed']} | {r['step']:,} | {r['mean']:.1f} | {r['median']:.1f} | {iqm} |"
        score += f" {r['kept']:.1f} ({r['kept_step']:,}) |"
        print(f"{score} {r['training_seconds']:.0f} s | {r['command_seconds']:.0f} s |")
    print(f"{sum(r['learned'] for r in runs)} of {len(runs)} seeds reached {asked.target:g}")


if __name__ == "__main__":
    main()
