"""Measure the overhead of `asyncrl.envs`: steps per second through it and of the same backend called directly.

    .venv/bin/python benchmarks/environments.py --rounds 5 --seconds 3

Both sides run in turns, with the same number of environments and random actions drawn beforehand. The result is the median
of each round's ratio. It goes to benchmarks/results/environments.json and, as a table, to standard output.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tyro

from asyncrl.envs import Environments, describe
from asyncrl.errors import UsageError
from asyncrl.runs.provenance import machine

RESULTS = Path(__file__).parent / "results" / "environments.json"


@dataclass(frozen=True)
class Arguments:
    envs: int = 8
    """Environments side by side."""
    rounds: int = 5
    seconds: float = 3.0
    """Per side and round."""


def atari(count: int) -> Any:
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv("pong", count, num_threads=1, repeat_action_probability=0.25, use_fire_reset=False)


def cartpole(count: int) -> Any:
    return gymnasium.make_vec("CartPole-v1", count, vectorization_mode="vector_entry_point")


def doom(count: int) -> Any:
    """The package's environment with observations scaled in the same way."""
    import cv2
    import vizdoom.gymnasium_wrapper  # noqa: F401

    class Small(gymnasium.ObservationWrapper[Any, Any, Any]):
        def __init__(self, env: Any) -> None:
            super().__init__(env)
            self.observation_space = gymnasium.spaces.Box(0, 255, (84, 84), np.uint8)

        def observation(self, observation: Any) -> Any:
            gray = cv2.cvtColor(observation["screen"], cv2.COLOR_RGB2GRAY)
            return cv2.resize(gray, (84, 84), interpolation=cv2.INTER_AREA)

    make = lambda: Small(gymnasium.make("VizdoomBasic-v1", frame_skip=4))  # noqa: E731
    return gymnasium.vector.SyncVectorEnv([make] * count)


def football(count: int) -> Any:
    import envpool

    return envpool.make("gfootball/academy_empty_goal_close-v1", env_type="gymnasium", num_envs=count, num_threads=1)


BARE: dict[str, Callable[[int], Any]] = {
    "ALE/Pong-v5": atari,
    "CartPole-v1": cartpole,
    "VizdoomBasic-v1": doom,
    "gfootball/academy_empty_goal_close-v1": football,
}


def rate(step: Callable[[Any], Any], actions: np.ndarray, seconds: float) -> float:
    """Environment steps per second."""
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step(actions[steps % len(actions)])
        steps += 1
    return steps * actions.shape[1] / (time.perf_counter() - began)


def compare(env: str, make: Callable[[int], Any], asked: Arguments) -> dict[str, Any]:
    """Measure both sides of one environment in turns."""
    contract = describe(env)
    ours, bare = Environments(contract, asked.envs), make(asked.envs)
    ours.reset(list(range(asked.envs)))
    bare.reset()
    actions = contract.spaces.actions.random(np.random.default_rng(0), 256 * asked.envs).reshape(256, asked.envs)
    bare_actions = actions.astype(np.int32) if "football" in env else actions
    rounds = []
    for _ in range(asked.rounds):
        mine = rate(ours.step, actions, asked.seconds)
        rounds.append((mine, rate(bare.step, bare_actions, asked.seconds)))
    ours.close()
    bare.close()
    return {
        "env": env,
        "ours": statistics.median(mine for mine, _ in rounds),
        "bare": statistics.median(theirs for _, theirs in rounds),
        "ratio": statistics.median(mine / theirs for mine, theirs in rounds),
    }


def main() -> None:
    asked = tyro.cli(Arguments, description=__doc__)
    found = []
    print("| environment | through our door | bare | ratio |\n|---|---|---|---|")
    for env, make in BARE.items():
        try:
            row = compare(env, make, asked)
        except (UsageError, ImportError) as problem:
            print(f"| {env} | not installed: {problem} | | |")
            continue
        found.append(row)
        print(f"| {env} | {row['ours']:,.0f} | {row['bare']:,.0f} | {row['ratio']:.2f} |", flush=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "settings": vars(asked), "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
