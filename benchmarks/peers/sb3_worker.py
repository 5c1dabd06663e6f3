"""Measure Stable-Baselines3's training speed, in the peer's virtual environment; prints one JSON object.

python sb3_worker.py a2c|dqn ENV ENVS T SECONDS subproc|dummy|single
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import ale_py
import gymnasium
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

WARM_UP = 5.0


class Stopwatch(BaseCallback):
    """Records the start time of every rollout and ends training `seconds` after the warm-up."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.began = time.monotonic()
        self.marks: list[tuple[float, int]] = []

    def _on_rollout_start(self) -> None:
        now = time.monotonic() - self.began
        if now >= WARM_UP:
            self.marks.append((now, self.num_timesteps))

    def _on_step(self) -> bool:
        return not self.marks or self.marks[-1][0] - self.marks[0][0] < self.seconds


def main() -> None:
    method, env, envs, steps, seconds, kind = sys.argv[1:]
    gymnasium.register_envs(ale_py)
    count, classes = 1 if kind == "single" else int(envs), {"subproc": SubprocVecEnv}
    vector = VecFrameStack(make_atari_env(env, count, seed=1, vec_env_cls=classes.get(kind, DummyVecEnv)), 4)
    model: BaseAlgorithm
    if method == "a2c":
        model = A2C("CnnPolicy", vector, n_steps=int(steps), seed=1)
    else:
        memory = {"buffer_size": 50_000, "learning_starts": 1_000, "batch_size": 32}
        model = DQN("CnnPolicy", vector, train_freq=int(steps), gradient_steps=count, **memory, seed=1)
    stopwatch = Stopwatch(float(seconds))
    model.learn(10**9, callback=stopwatch)
    (began, first), (ended, last) = stopwatch.marks[0], stopwatch.marks[-1]
    print(
        json.dumps(
            {
                "steps_per_second": (last - first) / (ended - began),
                "parameters": sum(p.numel() for p in (model.policy if method == "a2c" else model.q_net).parameters()),
                "versions": {name: version(name) for name in ("stable-baselines3", "torch", "ale-py", "gymnasium")},
            }
        )
    )
    vector.close()


if __name__ == "__main__":
    main()
