"""PPO on Pendulum, in its own units and in others, with and without normalization.

    .venv/bin/python benchmarks/normalization.py --seeds 3
    .venv/bin/python benchmarks/normalization.py --only own --steps 100000

In other units observations are 1,000 times larger, and rewards 1,000 times. Settings are those of the preset, without
its --reward-scale 0.1. Returns are of 100 greedy episodes, in Pendulum's own units: -150 is good, -1,200 is random.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import tyro
from gymnasium.wrappers import TransformObservation, TransformReward

import asyncrl
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results" / "normalization.json"
CASES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "observations, returns": dict(normalize_observation=True, normalize_return=True),
    "observations, values": dict(normalize_observation=True, normalize_value=True),
}
"""What is normalized, and the settings."""
UNITS = {"own": 1.0, "others": 1_000.0}


def in_units(factor: float) -> gymnasium.Env[Any, Any]:
    """Return Pendulum with observations and rewards times `factor`."""
    env = gymnasium.make("Pendulum-v1")
    space = gymnasium.spaces.Box(env.observation_space.low * factor, env.observation_space.high * factor)  # type: ignore[attr-defined]
    scaled = TransformObservation(env, lambda observation: observation * factor, space)
    return TransformReward(scaled, lambda reward: float(reward) * factor)


@dataclass(frozen=True)
class Arguments:
    steps: int = 100_000
    seeds: int = 1
    """Seeds 1 … N, one run each."""
    only: str = ""
    """Units whose name contains this."""
    out: Path = RESULTS


def trained(unit: str, case: str, steps: int, seed: int) -> dict[str, Any]:
    factor = UNITS[unit]
    began = time.monotonic()
    common: dict[str, Any] = dict(seed=seed, steps=steps, engine="serial", eval_episodes=0, progress=False)
    common |= dict(env_kwargs=json.dumps({"factor": factor})) | CASES[case]
    if "normalize_return" not in CASES[case]:
        common["reward_scale"] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        run = asyncrl.train(in_units, preset="ppo/pendulum", run_dir=Path(folder) / "run", **common)
        score = asyncrl.evaluate(run, 100, seed=1_000_003, greedy=True).mean / factor
    seconds = round(time.monotonic() - began, 1)
    return {"units": unit, "normalized": case, "seed": seed, "steps": steps, "mean": round(score, 1), "seconds": seconds}


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    print("| units | normalized | seed | mean return | seconds |")
    print("|---" * 5 + "|")
    runs = []
    for unit in (unit for unit in UNITS if asked.only in unit):
        for case in CASES:
            for seed in range(1, asked.seeds + 1):
                run = trained(unit, case, asked.steps, seed)
                runs.append(run)
                print(f"| {unit} | {case} | {seed} | {run['mean']} | {run['seconds']:.0f} |", flush=True)
    report = {"command": " ".join(sys.argv), "machine": machine(), "runs": runs}
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
