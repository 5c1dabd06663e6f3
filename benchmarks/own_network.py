"""Compare the training speed of networks of one's own with that of the built-in ones that they copy.

    .venv/bin/python benchmarks/own_network.py --out benchmarks/results/own-network.json

Each case is a short run with each network, in turns. The rate is read from `metrics.jsonl`, between the first and the last
recorded update. Reported is the median ratio of consecutive runs; 1 means equal speed.
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

from torch import Tensor, nn

from asyncrl.envs.spaces import Spaces
from asyncrl.networks import FrameConv2d

ON_POLICY = "--actors 2 --envs-per-actor 8 --t-max 20 --learning-rate 1e-4"
DQN = "--actors 2 --envs-per-actor 8 --learning-starts 1000 --capacity 20000 --learning-rate 1e-4"
CASES = {
    "dqn CartPole-v1": (f"{DQN} --steps 8000", "mlp", "own_network:Mlp"),
    "a3c ALE/Pong-v5": (f"{ON_POLICY} --steps 16000", "nature-cnn", "own_network:Cnn"),
    "dqn ALE/Pong-v5": (f"{DQN} --steps 2500", "nature-cnn", "own_network:Cnn"),
    "a3c ALE/Pong-v5 (x / 255)": (f"{ON_POLICY} --steps 16000", "nature-cnn", "own_network:DividedCnn"),
}
"""Options, built-in network and own network, by algorithm and environment."""
OPTIONS = "--eval-episodes 0 --seed 1 --quiet --no-video --log-every 1"


class Mlp(nn.Module):
    """The built-in mlp."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(spaces.observation_size, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x.flatten(1))
        return features


class Cnn(nn.Module):
    """The built-in nature-cnn."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(FrameConv2d(spaces.observation_shape[0], 32, 8, 4), nn.ReLU()),
            *(nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
            *(nn.Flatten(), nn.LazyLinear(512), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features


class DividedCnn(Cnn):
    """As most people write it: the pixels are divided, not the first layer's weights."""

    def __init__(self, spaces: Spaces) -> None:
        super().__init__(spaces)
        self.layers[0] = nn.Conv2d(spaces.observation_shape[0], 32, 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 255)


@dataclass(frozen=True)
class Arguments:
    pairs: int = 3
    only: str = ""
    """Cases whose name contains this."""
    out: Path | None = None


def rate(case: str, network: str) -> float:
    """Environment steps per second of one run of `case`."""
    algorithm, env, *_ = case.split()
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "asyncrl", "train", algorithm, env, *CASES[case][0].split(), "--network", network]
        command += ["--engine", "serial", *OPTIONS.split(), "--run-dir", "run"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here.parent, here)))}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case} with {network}: {done.stderr}")
        records = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    updates = [record for record in records if record["kind"] == "train"]
    return float((updates[-1]["step"] - updates[0]["step"]) / (updates[-1]["time"] - updates[0]["time"]))


def main() -> None:
    import tyro

    from asyncrl.runs.provenance import machine

    arguments = tyro.cli(Arguments)
    rows = []
    for case in (name for name in CASES if arguments.only in name):
        _, ours, theirs = CASES[case]
        pairs = []
        for turn in range(arguments.pairs):
            order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
            rates = {network: rate(case, network) for network in order}
            pairs.append((rates[ours], rates[theirs]))
        ratio = statistics.median(own / built_in for built_in, own in pairs)
        rows.append({"case": case, "built-in": [a for a, _ in pairs], "own": [b for _, b in pairs], "ratio": ratio})
        print(f"{case:28} {ratio:6.3f}   " + "  ".join(f"{a:,.0f} → {b:,.0f}" for a, b in pairs), flush=True)
    if arguments.out:
        facts = {"machine": machine(), "pairs": arguments.pairs, "rows": rows}
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
