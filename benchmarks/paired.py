"""Compare the training speed of this checkout with another one, on the same machine and with the same settings.

    git worktree add /tmp/base COMMIT
    .venv/bin/python benchmarks/paired.py /tmp/base --out benchmarks/results/paired.json

Each case is a short run without evaluations, in turns. Its rate is read from `metrics.jsonl`, between the first and the
last recorded update, so imports and start-up do not count. Reported is the median ratio of consecutive runs.
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

import tyro

from asyncrl.runs.provenance import machine

HERE = Path(__file__).resolve().parent.parent
ON_POLICY = ["--actors", "2", "--envs-per-actor", "8", "--t-max", "20", "--learning-rate", "1e-4"]
PPO = ["--actors", "2", "--envs-per-actor", "8", "--t-max", "64", "--epochs", "3", "--minibatches", "4",
       "--learning-rate", "1e-4", "--lag", "0"]  # fmt: skip
DQN = ["--actors", "2", "--envs-per-actor", "8", "--learning-starts", "1000", "--capacity", "20000", "--lag", "1",
       "--learning-rate", "1e-4"]  # fmt: skip
SMALL = ["--network", "mlp"]
LARGE = ["--network", "a3c-cnn"]
NATURE, RESNET = ["--network", "nature-cnn"], ["--network", "impala-resnet"]
CASES = {
    "a3c CartPole-v1 serial": [*ON_POLICY, *SMALL, "--steps", "200000"],
    "a3c CartPole-v1 threads": [*ON_POLICY, *SMALL, "--steps", "200000"],
    "a3c CartPole-v1 processes": [*ON_POLICY, *SMALL, "--steps", "200000"],
    "ppo CartPole-v1 serial": [*PPO, *SMALL, "--steps", "200000"],
    "dqn CartPole-v1 serial": [*DQN, *SMALL, "--steps", "40000"],
    "pqn CartPole-v1 serial": [*PPO, *SMALL, "--steps", "100000"],
    "sac Pendulum-v1 serial": ["--learning-starts", "500", "--steps", "4000"],
    "a3c ALE/Pong-v5 serial": [*ON_POLICY, *LARGE, "--steps", "14000"],
    "a3c ALE/Pong-v5 processes": [*ON_POLICY, *LARGE, "--steps", "20000"],
    "ppo ALE/Pong-v5 serial": [*PPO, *LARGE, "--steps", "10000"],
    "ppo ALE/Pong-v5 processes": [*PPO, *LARGE, "--steps", "14000"],
    "ppo PongNoFrameskip-v4 processes": ["--steps", "30720"],  # `make train`
    "dqn ALE/Pong-v5 serial": [*DQN, *LARGE, "--steps", "5000"],
    "a3c ALE/Pong-v5 serial nature-cnn": [*ON_POLICY, *NATURE, "--precision", "fp32", "--steps", "8000"],
    "a3c ALE/Pong-v5 serial resnet": [*ON_POLICY, *RESNET, "--precision", "fp32", "--steps", "2000"],
    "a3c ALE/Pong-v5 serial resnet-bf16": [*ON_POLICY, *RESNET, "--precision", "bf16", "--steps", "3000"],
}
"""Options by algorithm, environment, engine and, where these are equal, the network."""


@dataclass(frozen=True)
class Arguments:
    base: tyro.conf.Positional[Path]
    """The checkout to compare with."""
    pairs: int = 3
    only: str = ""
    """Cases whose name contains this."""
    out: Path | None = None


def rate(checkout: Path, case: str) -> float:
    """Environment steps per second of one run of `case` by the package in `checkout`."""
    algorithm, env, engine = case.split()[:3]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "asyncrl", "train", algorithm, env, *CASES[case], "--engine", engine]
        command += [
            "--eval-every",
            "0",
            "--eval-episodes",
            "1",
            "--seed",
            "1",
            "--quiet",
            "--run-dir",
            str(run),
            "--log-every",
            "1",
        ]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case} in {checkout}: {done.stderr}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    updates = [line for line in lines if line["kind"] == "train"]
    return float((updates[-1]["step"] - updates[0]["step"]) / (updates[-1]["time"] - updates[0]["time"]))


def main() -> None:
    arguments = tyro.cli(Arguments)
    rows = []
    for case in (name for name in CASES if any(word in name for word in arguments.only.split(","))):
        pairs = []
        for turn in range(arguments.pairs):
            order = (arguments.base, HERE) if turn % 2 == 0 else (HERE, arguments.base)
            rates = {checkout: rate(checkout.resolve(), case) for checkout in order}
            pairs.append((rates[arguments.base], rates[HERE]))
        ratio = statistics.median(now / base for base, now in pairs)
        rows.append({"case": case, "base": [a for a, _ in pairs], "now": [b for _, b in pairs], "ratio": ratio})
        print(f"{case:28} {ratio:6.3f}   " + "  ".join(f"{a:,.0f} → {b:,.0f}" for a, b in pairs), flush=True)
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"machine": machine(), "pairs": arguments.pairs, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
