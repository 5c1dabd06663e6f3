"""Train an agent in an environment of your own, score it and record it.

    python examples/own_environment.py

The same from the command line, in this folder:

    asyncrl train ppo own_environment:Room --env-kwargs '{"size": 7}' --steps 40000
    asyncrl play runs/ppo-own_environment-Room-… --video room.gif
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import asyncrl


class Room(gymnasium.Env[dict[str, Any], int]):
    """Walk to the goal, which is at one of the two ends of the room; every step costs a little."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, size: int = 5, limit: int = 50, render_mode: str | None = None) -> None:
        self.size, self.limit, self.render_mode = size, limit, render_mode
        self.observation_space = spaces.Dict({"agent": spaces.Discrete(size), "goal": spaces.Box(0, 1, (1,), np.float32)})
        self.action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.agent, self.steps = self.size // 2, 0
        self.goal = int(self.np_random.choice([0, self.size - 1]))
        return self._observe(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.agent = int(np.clip(self.agent + (1 if action else -1), 0, self.size - 1))
        self.steps += 1
        arrived = self.agent == self.goal
        return self._observe(), 1.0 if arrived else -0.05, arrived, self.steps == self.limit, {}

    def render(self) -> np.ndarray:
        picture = np.zeros((32, 32 * self.size, 3), np.uint8)
        picture[:, 32 * self.goal : 32 * (self.goal + 1), 1] = 255
        picture[:, 32 * self.agent : 32 * (self.agent + 1), 0] = 255
        return picture

    def _observe(self) -> dict[str, Any]:
        return {"agent": self.agent, "goal": np.array([self.goal / self.size], np.float32)}


def main(steps: int = 40_000, video: Path = Path("room.gif")) -> float:
    """Return the mean return of the trained agent; at best about 0.9."""
    run = asyncrl.train(Room, "ppo", steps=steps, env_kwargs={"size": 7}, progress=True)
    scores = asyncrl.evaluate(run, episodes=100)
    asyncrl.play(run, episodes=3, video=video)
    print(f"mean return {scores.mean:.2f}; {video} shows three episodes")
    return scores.mean


if __name__ == "__main__":
    main()
