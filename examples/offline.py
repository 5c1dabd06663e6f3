"""Record the games of a scripted player, and learn from them without playing.

    pip install '.[data]'
    python examples/offline.py

`dqn` with a conservative penalty (CQL, Kumar et al. 2020) learns from the dataset alone; behavioural cloning imitates it.
The same from the command line:

    asyncrl record CartPole-v1 --bot offline:make_bot --episodes 50 --out cartpole/scripted-v0
    asyncrl train dqn CartPole-v1 --offline cartpole/scripted-v0 --cql-alpha 1 --steps 20000
    asyncrl pretrain a3c CartPole-v1 --data cartpole/scripted-v0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import asyncrl

DATASET = "cartpole/scripted-v0"


def make_bot() -> Callable[[np.ndarray, dict[str, Any]], int]:
    """Return a player that pushes the cart to the side to which the pole falls."""

    def act(observation: np.ndarray, info: dict[str, Any]) -> int:
        _, velocity, angle, angular_velocity = observation
        return int(angle + 0.3 * angular_velocity + 0.03 * velocity > 0)

    return act


def main(steps: int = 20_000, episodes: int = 50) -> dict[str, float]:
    """Return the mean returns of the scripted player and of those who learned from it."""
    recorded = asyncrl.record("CartPole-v1", DATASET, episodes=episodes, bot=f"{__name__}:make_bot")
    conservative = asyncrl.train("CartPole-v1", "dqn", offline=DATASET, cql_alpha=1.0, steps=steps)
    imitation = asyncrl.pretrain("CartPole-v1", "a3c", DATASET)
    scores = {
        "scripted": recorded.mean,
        "dqn, offline": asyncrl.evaluate(conservative, episodes=30).mean,
        "imitation": asyncrl.evaluate(imitation, episodes=30).mean,
    }
    print("\n".join(f"{name:<14}{score:6.1f}" for name, score in scores.items()))
    return scores


if __name__ == "__main__":
    main()
