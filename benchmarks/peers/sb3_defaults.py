"""Train Stable-Baselines3 with its defaults, in the peer's virtual environment; prints the scores as one JSON object.

python sb3_defaults.py ppo|a3c|dqn|sac MODULE CLASS STEPS SEED
"""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

ALGORITHMS = {"ppo": PPO, "a3c": A2C, "dqn": DQN, "sac": SAC}
EPISODES = 100
UNSEEN = 1_000_003


def main() -> None:
    algorithm, module, name, steps, seed = sys.argv[1:]
    torch.set_num_threads(1)
    sys.path.insert(0, ".")
    make = getattr(importlib.import_module(module), name)
    model = ALGORITHMS[algorithm]("MlpPolicy", Monitor(make()), seed=int(seed), device="cpu")
    model.learn(int(steps))
    scores = {}
    for mode, greedy in (("greedy", True), ("sample", False)):
        env = Monitor(make())
        env.reset(seed=UNSEEN)
        returns, _ = evaluate_policy(model, env, EPISODES, deterministic=greedy, return_episode_rewards=True)
        scores[mode] = float(np.mean(returns))
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
