"""Learn a task in which ten random actions of 500 are allowed in each step, with and without the action mask.

    .venv/bin/python benchmarks/masks.py --seeds 3
    .venv/bin/python benchmarks/masks.py --only ppo --steps 20000

Every action has a fixed value between 0 and 1 in each of three contexts. An allowed action is rewarded with its value, a
forbidden one with 0, and both are counted, without the steps that only reset: an agent that heeds the mask takes no
forbidden action. In an episode of 20 steps random allowed actions are worth 10 on average, the best ones 18.2, and 14.8 in
ignorance of the context. Without the mask the agent is given it as part of its observation. The recurrent agents see the
context in an episode's first step only. Returns are of 100 greedy episodes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import tyro
from gymnasium import spaces

import asyncrl
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results" / "masks.json"
ACTIONS, ALLOWED, CONTEXTS, LENGTH = 500, 10, 3, 20
VALUES = np.random.default_rng(7).random((CONTEXTS, ACTIONS))
PPO: dict[str, Any] = dict(
    actors=2, envs_per_actor=8, t_max=20, epochs=4, minibatches=4, learning_rate=1e-3, discount=0.9, entropy_cost=0.0
)
DQN: dict[str, Any] = dict(
    learning_rate=1e-3, learning_starts=1_000, epsilon_steps=20_000, target_every=1_000, discount=0.0
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("ppo", PPO),
    "ppo, LSTM": ("ppo", PPO | dict(recurrent="lstm", recurrent_size=64)),
    "dqn": ("dqn", DQN),
    "dqn, LSTM": ("dqn", DQN | dict(recurrent="lstm", recurrent_size=64, sequence_length=LENGTH, batch_size=8)),
}
"""Algorithm and settings by name."""


class Moves(gymnasium.Env[Any, int]):
    """The task. With `recalled`, the context is shown in the first step only."""

    taken: ClassVar[dict[bool, int]] = {True: 0, False: 0}
    """Number of allowed and of forbidden actions in this process."""

    def __init__(self, recalled: bool = False) -> None:
        self.recalled = recalled
        self.action_space = spaces.Discrete(ACTIONS)
        self.observation_space = spaces.Dict(
            {"observation": spaces.Box(0, 1, (CONTEXTS,), np.float32), "action_mask": spaces.MultiBinary(ACTIONS)}
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.age, self.context = 0, int(self.np_random.integers(CONTEXTS))
        return self.see(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        is_allowed = bool(self.mask[action])
        Moves.taken[is_allowed] += 1
        self.age += 1
        reward = float(VALUES[self.context, action]) if is_allowed else 0.0
        return self.see(), reward, self.age == LENGTH, False, {}

    def see(self) -> dict[str, np.ndarray]:
        self.mask = np.zeros(ACTIONS, np.int8)
        self.mask[self.np_random.choice(ACTIONS, ALLOWED, replace=False)] = 1
        is_shown = self.age == 0 or not self.recalled
        context = np.eye(CONTEXTS, dtype=np.float32)[self.context] * np.float32(is_shown)
        return {"observation": context, "action_mask": self.mask}


@dataclass(frozen=True)
class Arguments:
    steps: int = 105_000
    seeds: int = 1
    """Seeds 1 … N, one run each."""
    only: str = ""
    """Cases whose name contains this."""
    out: Path = RESULTS


def trained(name: str, steps: int, seed: int, *, masked: bool) -> dict[str, Any]:
    """Train in this process, so that actions can be counted, and evaluate."""
    algorithm, settings = CASES[name]
    common: dict[str, Any] = dict(seed=seed, engine="serial", eval_episodes=0, progress=False, action_mask=masked)
    Moves.taken.update({True: 0, False: 0})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = asyncrl.train(
            Moves,
            algorithm,
            steps=steps,
            env_kwargs=json.dumps({"recalled": "recurrent" in settings}),
            run_dir=Path(folder) / "run",
            **common,
            **settings,
        )
        counted = dict(Moves.taken)
        score = asyncrl.evaluate(run, 100, seed=1_000_003, greedy=True).mean
    return {
        "case": name,
        "masked": masked,
        "seed": seed,
        "steps": steps,
        "forbidden": counted[False],
        "actions": sum(counted.values()),
        "mean": round(score, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    print("| agent | mask | seed | forbidden actions | mean return | seconds |")
    print("|---" * 6 + "|")
    facts = {"command": " ".join(sys.argv), "machine": machine()}
    asked.out.parent.mkdir(exist_ok=True)
    runs = []
    for name in (name for name in CASES if asked.only in name):
        for masked in (True, False):
            for seed in range(1, asked.seeds + 1):
                run = trained(name, asked.steps, seed, masked=masked)
                runs.append(run)
                counts = f"{run['forbidden']:,} of {run['actions']:,}"
                print(
                    f"| {name} | {'yes' if masked else 'no'} | {seed} | {counts} | {run['mean']} | {run['seconds']:.0f} |"
                )
                sys.stdout.flush()
                asked.out.write_text(json.dumps({**facts, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
