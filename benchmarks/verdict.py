"""Check the verdict: does a run with the setting that it names reach the speed that it expects?

    .venv/bin/python benchmarks/verdict.py --out benchmarks/results/verdict.json

Each case trains once, reads the verdict, and trains again with the setting that the verdict names. Speeds are those of the
verdicts' own measurement: steps per second from the first update to the end, evaluations included.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from asyncrl.runs.provenance import machine

HERE = Path(__file__).resolve().parent
NO_EVALUATION = "--eval-episodes 0 "
WAITING = "slow_environments:Waiting "
CASES = {
    "environments that wait": f"a3c {WAITING}--actors 2 --envs-per-actor 4 --engine processes --steps 8000",
    "environments that wait, in workers": f"a3c {WAITING}--actors 2 --envs-per-actor 4 --engine processes --steps 20000 "
    "--env-backend async",
    "environments that compute, one core": "a3c slow_environments:Computing --actors 2 --envs-per-actor 4 --engine serial "
    "--steps 6000 --env-kwargs '{\"seconds\": 0.0005}'",
    "environments that compute, all cores": "a3c slow_environments:Computing --actors 4 --envs-per-actor 4 "
    "--engine processes --steps 12000 --env-kwargs '{\"seconds\": 0.0005}'",
    "synchronous": f"ppo {WAITING}--actors 4 --envs-per-actor 2 --engine processes --lag 0 --hidden 512 512 --epochs 4 "
    "--t-max 64 --steps 8000 --env-backend async",
    "large network": "ppo CartPole-v1 --actors 2 --envs-per-actor 8 --hidden 512 512 --engine processes --lag 1 "
    "--steps 30000",
    "small network": "a3c CartPole-v1 --actors 2 --envs-per-actor 8 --engine serial --steps 60000",
    "evaluations": "a3c CartPole-v1 --engine serial --steps 60000 --eval-every 3000 --eval-episodes 100",
    "one slow actor": f"a3c {WAITING}--env slow_environments:Straggler --actors 4 --envs-per-actor 2 --engine processes "
    "--steps 8000",
    "hogwild": f"a3c {WAITING}--actors 2 --envs-per-actor 4 --engine hogwild --steps 8000",
    "Pong": "a3c ALE/Pong-v5 --actors 2 --envs-per-actor 8 --engine serial --steps 6000",
    "Pong, processes": "a3c ALE/Pong-v5 --actors 2 --envs-per-actor 8 --engine processes --steps 8000",
    "replay": "dqn CartPole-v1 --steps 15000",
}


@dataclass(frozen=True)
class Arguments:
    only: str = ""
    """Cases whose name contains this; several are divided by commas."""
    out: Path | None = None


def verdict_of(options: list[str]) -> dict[str, Any]:
    """The verdict of a run with these arguments, and its `speed` in steps per second."""
    evaluation = [] if "--eval-every" in options else shlex.split(NO_EVALUATION)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "asyncrl", "train", *options, *evaluation, "--quiet", "--no-video"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
        command += ["--seed", "1", "--run-dir", str(run)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{shlex.join(options)}: {done.stderr}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found: dict[str, Any] = next(line for line in reversed(lines) if line["kind"] == "verdict")
    return {**found, "speed": found["step"] / max(found["seconds"], 1e-9)}


def main() -> None:
    arguments = tyro.cli(Arguments)
    rows = []
    for case in (name for name in CASES if any(word in name for word in arguments.only.split(","))):
        options = shlex.split(CASES[case])
        before = verdict_of(options)
        print(f"{case}\n  {before['speed']:,.0f} steps/s. {before['verdict']}", flush=True)
        row = {"case": case, "options": CASES[case], "before": before}
        if before["flag"] is not None:
            after = verdict_of([*_without(options, before["flag"]), *shlex.split(before["flag"])])
            row |= {"after": after, "expected": before["gain"], "reached": after["speed"] / before["speed"]}
            print(f"  {before['flag']}: expected {before['gain']:.2f}, reached {row['reached']:.2f}", flush=True)
        rows.append(row)
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def _without(options: list[str], flags: str) -> list[str]:
    """The options without those that `flags` give, each with its one value."""
    given = {word for word in shlex.split(flags) if word.startswith("--")}
    kept, skip = [], False
    for word in options:
        skip, drop = word in given, skip
        if not (skip or drop):
            kept.append(word)
    return kept


if __name__ == "__main__":
    main()
