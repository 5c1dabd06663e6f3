"""Measure the benefit of imitation: imitate an agent, train further, and compare with training from scratch.

    .venv/bin/python benchmarks/imitation.py a3c CartPole-v1 --target 475 --seeds 3

An agent is trained with the preset and recorded for 20 episodes; a new network imitates it. Training then continues from
the imitation (with a tenth of the learning rate), and starts from scratch, until an evaluation of 20 episodes reaches the
target. The result is the number of environment steps. It goes to benchmarks/results/imitation-ALGO-ENV.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from asyncrl.api import configure, evaluate, record, train
from asyncrl.launch import imitate, start
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arguments:
    algorithm: Annotated[str, tyro.conf.Positional]
    env: Annotated[str, tyro.conf.Positional]
    target: float
    """The mean return to reach."""
    seeds: int = 3
    """Use seeds 1 … N for the final training."""
    episodes: int = 20
    """Episodes to record."""
    every: int = 5_000
    """Steps between evaluations."""


def steps_to(asked: Arguments, folder: Path, seed: int, **settings: Any) -> int | None:
    """Environment steps until the target; None if it was not reached."""
    goal = dict(target_return=asked.target, eval_every=asked.every, eval_episodes=20, eval_greedy=True, seed=seed)
    _, outcome = start(configure(asked.env, asked.algorithm, **goal, **settings), folder)
    assert outcome.evaluation is not None
    return outcome.step if outcome.evaluation.mean >= asked.target else None


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MINARI_DATASETS_PATH"] = str(folder / "datasets")
        (folder / "datasets").mkdir()
        expert = train(asked.env, asked.algorithm, run_dir=folder / "expert")
        recorded = record(expert.path, "expert/play-v0", asked.episodes)
        config = configure(asked.env, asked.algorithm, eval_episodes=0, seed=99)
        clone, best = imitate(config, "expert/play-v0", run_dir=folder / "clone")
        report: dict[str, Any] = {
            "command": " ".join(sys.argv),
            "machine": machine(),
            "expert": recorded.mean,
            "clone": evaluate(clone.path, 100, greedy=True).mean,
            "agreement": best.agreement,
        }
        gently = dict(init_from=str(clone.path), learning_rate=config.optimizer.learning_rate / 10)
        seeds = range(1, asked.seeds + 1)
        report["from_imitation"] = [steps_to(asked, folder / f"on-{seed}", seed, **gently) for seed in seeds]
        report["from_nothing"] = [steps_to(asked, folder / f"new-{seed}", seed) for seed in seeds]
    print(json.dumps({key: value for key, value in report.items() if key != "machine"}, indent=1))
    RESULTS.mkdir(exist_ok=True)
    name = f"imitation-{asked.algorithm}-{asked.env.replace('/', '-')}.json"
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
