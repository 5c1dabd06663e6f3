"""Measure Stable-Baselines3's training speed in one configuration of a case, in its virtual environment; prints JSON."""

from __future__ import annotations

from typing import Any

import ale_py
import gymnasium
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack
from task import Stopwatch, Task, answer

ALGORITHMS: dict[str, Any] = {"a2c": A2C, "ppo": PPO, "dqn": DQN, "sac": SAC}
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


class Reader(BaseCallback):
    """Notes the start time of every rollout and ends training when the measurement is complete."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self.stopwatch = stopwatch

    def _on_rollout_start(self) -> None:
        self.stopwatch.read(self.num_timesteps)

    def _on_step(self) -> bool:
        return not self.stopwatch.is_complete


def environments(task: Task, count: int) -> VecEnv:
    """Make the environments; Atari with the preprocessing of the DQN paper."""
    kind = SubprocVecEnv if task.how.place == "subproc" else DummyVecEnv
    if task.case.network.hidden:
        return make_vec_env(task.case.env, count, seed=1, vec_env_cls=kind)
    gymnasium.register_envs(ale_py)
    return VecFrameStack(make_atari_env(task.case.env, count, seed=1, vec_env_cls=kind), 4)


def settings(task: Task, count: int) -> dict[str, Any]:
    """Return the arguments of the algorithm that make its batches those of the case."""
    case = task.case
    if case.method == "a2c":
        return dict(n_steps=task.t)
    if case.method == "ppo":
        return dict(n_steps=task.t, n_epochs=case.epochs, batch_size=count * task.t // case.minibatches)
    every = max(task.t, case.update_every) if count == 1 else task.t
    return dict(
        buffer_size=case.capacity,
        learning_starts=case.learning_starts,
        batch_size=case.batch_size,
        train_freq=every,
        gradient_steps=every * count // case.update_every,
    )


def model_of(task: Task, vector: VecEnv) -> BaseAlgorithm:
    """Build the algorithm with the network of the case."""
    wanted = task.case.network
    own = dict(net_arch=list(wanted.hidden), activation_fn=ACTIVATIONS[wanted.activation]) if wanted.hidden else None
    policy = "MlpPolicy" if wanted.hidden else "CnnPolicy"
    algorithm = ALGORITHMS[task.case.method]
    model: BaseAlgorithm = algorithm(
        policy, vector, policy_kwargs=own, seed=1, device="cpu", **settings(task, vector.num_envs)
    )
    return model


def learned_numbers(model: Any) -> int:
    """Count what is learned: without target networks, with SAC's temperature."""
    if isinstance(model, DQN):
        return sum(p.numel() for p in model.q_net.parameters())
    if isinstance(model, SAC):
        networks = (*model.actor.parameters(), *model.critic.parameters(), model.log_ent_coef)
        return sum(p.numel() for p in networks)
    return sum(p.numel() for p in model.policy.parameters())


def main() -> None:
    task = Task.given()
    if task.how.threads is not None:
        torch.set_num_threads(task.how.threads)
    vector = environments(task, 1 if task.how.place == "single" else task.case.envs)
    model = model_of(task, vector)
    reader = Reader(task.stopwatch)
    model.learn(10**9, callback=reader)
    answer(reader.stopwatch, learned_numbers(model), ("stable-baselines3", "torch", "ale-py", "gymnasium"))
    vector.close()


if __name__ == "__main__":
    main()
