"""Extract learning curves from published runs, for comparisons at equal steps.

    git clone https://github.com/DLR-RM/rl-trained-agents CLONE
    .venv/bin/python benchmarks/published_curves.py CLONE

RL Baselines3 Zoo publishes one run for each method and environment, with the return and the length of every training
episode: a file for each of its environments, which step side by side. Each curve goes to
benchmarks/results/published/METHOD-ENV.jsonl as records of the mean return of the last 100 episodes, as in the metrics of
our runs. Lengths on Atari are frames, four a step.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

RUNS = {
    "PongNoFrameskip-v4": ("ppo", "a2c", "dqn"),
    "BreakoutNoFrameskip-v4": ("ppo", "a2c", "dqn"),
    "HalfCheetah-v3": ("ppo", "sac"),
    "Hopper-v3": ("ppo", "sac"),
    "Walker2d-v3": ("ppo", "sac"),
}
"""Methods by environment."""
RESULTS = Path(__file__).parent / "results" / "published"
STEPS = [*range(25_000, 2_000_000, 25_000), *range(2_000_000, 10_000_001, 250_000)]
WINDOW = 100
"""Episodes that a point is the mean of."""
FRAMES = 4
"""Frames in a step of `…NoFrameskip-v4`."""


@dataclass(frozen=True)
class Arguments:
    clone: tyro.conf.Positional[Path]
    """A clone of rl-trained-agents."""


def git(clone: Path, *arguments: str) -> str:
    """What git prints; the clone may have no work tree."""
    return subprocess.run(["git", "-C", str(clone), *arguments], capture_output=True, text=True, check=True).stdout


def episodes(clone: Path, folder: str, per_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps of all environments at the end of each episode, and its return; both [episodes] float64, in order."""
    names = git(clone, "ls-tree", "--name-only", "HEAD", f"{folder}/").split()
    files = [git(clone, "show", f"HEAD:{name}") for name in names if name.endswith(".monitor.csv")]
    ends, returns = [], []
    for text in files:
        table = np.array([line.split(",")[:2] for line in text.splitlines()[2:]], dtype=np.float64)
        returns.append(table[:, 0])
        ends.append(len(files) * table[:, 1].cumsum() / per_step)
    order = np.concatenate(ends).argsort(kind="stable")
    return np.concatenate(ends)[order], np.concatenate(returns)[order]


def main() -> None:
    clone = tyro.cli(Arguments, description=__doc__).clone
    commit = git(clone, "rev-parse", "HEAD").strip()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for env, methods in RUNS.items():
        for method in methods:
            folder = f"{method}/{env}_1"
            ends, returns = episodes(clone, folder, FRAMES if "NoFrameskip" in env else 1)
            records = [
                {"kind": "source", "repository": "github.com/DLR-RM/rl-trained-agents", "commit": commit, "run": folder}
            ]
            for update, step in enumerate(STEPS):
                count = int(np.searchsorted(ends, step, side="right"))
                if count and step <= ends[-1] + STEPS[0]:
                    mean = round(float(returns[max(0, count - WINDOW) : count].mean()), 2)
                    records.append({"kind": "train", "step": step, "update": update, "mean_return": mean})
            path = RESULTS / f"{method}-{env}.jsonl"
            path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
            print(f"{path.name}: {len(returns):,} episodes, {ends[-1]:,.0f} steps")


if __name__ == "__main__":
    main()
