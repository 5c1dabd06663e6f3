"""Compare the training speed of `--engine ray` with `--engine processes`, on this machine and with the same settings.

    .venv/bin/python benchmarks/ray_engine.py --out benchmarks/results/ray.json

A run is short and without evaluations; the engines take turns. A rate is read from `metrics.jsonl`, between the first and
the last recorded update, so imports and start-up do not count. Both engines must end with the same weights.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from asyncrl.runs.provenance import machine


@dataclass(frozen=True)
class Arguments:
    pairs: int = 3
    algorithm: str = "a3c"
    env: str = "ALE/Pong-v5"
    steps: int = 40_000
    actors: int = 2
    envs_per_actor: int = 16
    t_max: int = 20
    out: Path | None = None


def measure(arguments: Arguments, engine: str) -> dict[str, Any]:
    """One run: its rate in environment steps per second, where the time went, and the hash of its weights."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = {"actors": arguments.actors, "envs-per-actor": arguments.envs_per_actor, "t-max": arguments.t_max}
        settings |= {"steps": arguments.steps, "eval-episodes": 0, "log-every": 1, "engine": engine, "run-dir": run}
        command = [sys.executable, "-m", "asyncrl", "train", arguments.algorithm, arguments.env, "--quiet", "--no-video"]
        command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ, check=False)
        if done.returncode:
            raise SystemExit(f"{engine}: {done.stderr}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        newest = (run / "latest").read_text().strip()
        manifest = json.loads((run / "checkpoints" / newest / "manifest.json").read_text())
    updates = [line for line in lines if line["kind"] == "train"]
    rate = (updates[-1]["step"] - updates[0]["step"]) / (updates[-1]["time"] - updates[0]["time"])
    stages = next(line for line in reversed(lines) if line["kind"] == "verdict")
    shares = {name: stages[name] for name in ("actors", "learner", "busy_cores")}
    return {"steps_per_second": round(rate), "weights_sha256": manifest["weights_sha256"], **shares}


def main() -> None:
    arguments = tyro.cli(Arguments)
    pairs = []
    for turn in range(arguments.pairs):
        order = ("processes", "ray") if turn % 2 == 0 else ("ray", "processes")
        pair = {engine: measure(arguments, engine) for engine in order}
        assert pair["ray"]["weights_sha256"] == pair["processes"]["weights_sha256"]
        rates = {engine: pair[engine]["steps_per_second"] for engine in ("processes", "ray")}
        pairs.append({"ratio": round(rates["ray"] / rates["processes"], 3), **pair})
        print(f"{rates}  ratio {pairs[-1]['ratio']:.3f}  load {os.getloadavg()[0]:.1f}", flush=True)
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    print(f"median ratio {ratio:.3f}")
    if arguments.out is not None:
        settings = {name: value for name, value in vars(arguments).items() if name != "out"}
        found = {"settings": settings, "median_ratio": ratio, "pairs": pairs, "machine": machine(), "load": os.getloadavg()}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
