"""Compare default settings with Stable-Baselines3's on small environments that neither was tuned on.

    .venv/bin/python benchmarks/held_out.py --seeds 5
    .venv/bin/python benchmarks/held_out.py --only ppo/GridWorld --seeds 1

The environments are those of `examples/environments/`. Both sides take the same number of environment steps with nothing
but their defaults (here: the command `asyncrl train ALGO ENV --steps N`; there: `ALGO("MlpPolicy", env)`; `a3c` is compared
with A2C). The last weights are scored over 100 unseen episodes, greedily and by sampling from the policy; the better of
the two counts, on both sides. Reported are the means over seeds and a 95 % bootstrap interval of their difference.
Runs that are in the file of results already are not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from asyncrl.runs.provenance import machine

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / "examples" / "environments"
PEER = HERE / ".peers" / "sb3" / "bin" / "python"
DISCRETE = {
    "GridWorld": 50_000,
    "Trading": 50_000,
    "DelayedReward": 50_000,
    "NoisyObservation": 50_000,
}
CONTINUOUS = {"Reaching": 50_000, "Allocation": 50_000}
SAC_STEPS = 10_000
EPISODES = 100
UNSEEN = 1_000_003


@dataclass(frozen=True)
class Arguments:
    seeds: int = 5
    only: str = ""
    """Cases whose name, ALGO/ENVIRONMENT, contains this."""
    side: str = ""
    """Run only this side: asyncrl or sb3."""
    out: Path = HERE / "results" / "held-out.json"


def cases() -> dict[str, int]:
    """Environment steps by case."""
    found = {f"{algorithm}/{env}": steps for algorithm in ("ppo", "a3c") for env, steps in (DISCRETE | CONTINUOUS).items()}
    found |= {f"dqn/{env}": steps for env, steps in DISCRETE.items()}
    return found | {f"sac/{env}": SAC_STEPS for env in CONTINUOUS}


def module_of(env: str) -> str:
    """The module with the class `env`: GridWorld is in grid_world."""
    return "".join("_" + c.lower() if c.isupper() else c for c in env).removeprefix("_")


def score_of_asyncrl(algorithm: str, env: str, steps: int, seed: int) -> dict[str, Any]:
    asyncrl = [sys.executable, "-m", "asyncrl"]
    with tempfile.TemporaryDirectory() as folder:
        name = f"{module_of(env)}:{env}"
        options = ["--steps", str(steps), "--seed", str(seed), "--eval-episodes", "0", "--no-video", "--quiet"]
        subprocess.run(
            [*asyncrl, "train", algorithm, name, *options, "--run-dir", f"{folder}/run"], check=True, cwd=ENVIRONMENTS
        )
        preset = json.loads(Path(folder, "run", "config.json").read_text())["config"]["preset"]
        scores = {}
        for mode in ("greedy", "sample"):
            evaluate = [
                "evaluate",
                f"{folder}/run",
                "--episodes",
                str(EPISODES),
                "--seed",
                str(UNSEEN),
                f"--{mode}",
                "--json",
            ]
            found = subprocess.run([*asyncrl, *evaluate], stdout=subprocess.PIPE, text=True, cwd=ENVIRONMENTS)
            if found.returncode == 0:  # a deterministic policy cannot be sampled
                scores[mode] = json.loads(found.stdout)["mean"]
    return {"score": max(scores.values()), **scores, "preset": preset}


def score_of_peer(algorithm: str, env: str, steps: int, seed: int) -> dict[str, Any]:
    words = [PEER, HERE / "peers" / "sb3_defaults.py", algorithm, module_of(env), env, str(steps), str(seed)]
    found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ENVIRONMENTS)
    scores: dict[str, float] = json.loads(found.stdout)
    return {"score": max(scores.values()), **scores}


def difference(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """The difference of the means, with a 95 % bootstrap interval."""
    random = np.random.default_rng(1)
    draws = [random.choice(side, (10_000, len(side))).mean(1) for side in (np.array(ours), np.array(theirs))]
    low, high = np.percentile(draws[0] - draws[1], (2.5, 97.5))
    return {"difference": float(np.mean(ours) - np.mean(theirs)), "interval": [float(low), float(high)]}


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    report = json.loads(asked.out.read_text()) if asked.out.exists() else {"machine": machine(), "cases": {}}
    sides = {"asyncrl": score_of_asyncrl, "sb3": score_of_peer}
    for name, steps in cases().items():
        if asked.only not in name:
            continue
        algorithm, env = name.split("/")
        case = report["cases"].setdefault(name, {"steps": steps, "asyncrl": {}, "sb3": {}})
        for seed in map(str, range(1, asked.seeds + 1)):
            for side, score in sides.items():
                if asked.side in ("", side) and seed not in case[side]:
                    case[side][seed] = score(algorithm, env, steps, int(seed))
                    asked.out.write_text(json.dumps(report, indent=1) + "\n")
        ours, theirs = ([run["score"] for run in case[side].values()] for side in sides)
        if ours and theirs:
            case |= difference(ours, theirs)
            low, high = case["interval"]
            means = f"{np.mean(ours):9.2f} {np.mean(theirs):9.2f}"
            print(f"{name:24} {steps:7,} steps {means}  difference {case['difference']:8.2f} [{low:.2f}, {high:.2f}]")
        asked.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
