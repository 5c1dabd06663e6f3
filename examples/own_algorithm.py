"""Train with an algorithm of your own, and check that it gives the same weights on every engine.

    python examples/own_algorithm.py

The same from the command line, in this folder, with every field as an option:

    asyncrl train own_algorithm:SoftQ CartPole-v1 --temperature 0.01 --steps 200000
    asyncrl train own_algorithm:SoftQ --help
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import asyncrl
from asyncrl.algorithms import Loss
from asyncrl.algorithms.exploration import Exploration
from asyncrl.algorithms.optimizers import Optimizer, OptimizerConfig
from asyncrl.algorithms.returns import multistep_errors
from asyncrl.algorithms.value_based import ValueBasedMethod, squared_error
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import NetworkConfig, QNetwork
from asyncrl.testing import check_lockstep


@dataclass(frozen=True)
class SoftQ(ValueBasedMethod):
    """N-step soft Q-learning (Haarnoja et al. 2017), which bootstraps from α·log mean_a exp(Q(s, a) / α)."""

    name: ClassVar[str] = "soft-q"
    summary: ClassVar[str] = "n-step Q-learning with soft values"
    optimizer: ClassVar[OptimizerConfig] = OptimizerConfig(Optimizer.ADAM, 1e-3, decay=0.999)

    t_max: int = 5
    """Steps per rollout."""
    target_every: int = 2_000
    """Steps between copies into the target network."""
    temperature: float = 0.1
    """α: 0 would be the maximum, large values the mean over actions."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        super().check(spaces, network)
        within(self, 0, math.inf, "temperature", above=True)

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def loss(self, network: QNetwork, target: QNetwork, batch: Batch) -> Loss:
        with torch.no_grad():
            value = self.soft_value(target(batch.observation, batch.state, batch.valid).q)  # [T+1, N]
            discount = self.discount * (~batch.terminated).float()
            returns = value[:-1] + multistep_errors(batch.reward, discount, value, batch.valid, trace=1.0)
        q = network(batch.observation[:-1], batch.state, batch.valid).q
        return squared_error(q, batch.action, returns, batch.valid)

    def soft_value(self, q: Tensor) -> Tensor:
        """Return the soft values [T, N] of action values [T, N, A]."""
        return self.temperature * ((q / self.temperature).logsumexp(-1) - math.log(q.shape[-1]))


def main(steps: int = 200_000) -> float:
    """Return the mean return of the trained agent; at best 500."""
    check_lockstep("CartPole-v1", SoftQ)
    exploration = Exploration(final_epsilons=(0.1,), final_epsilon_probabilities=(1.0,), epsilon_steps=steps // 2)
    algorithm = SoftQ(temperature=0.01, exploration=exploration)
    run = asyncrl.train("CartPole-v1", algorithm, steps=steps, actors=1, reward_scale=0.05)
    score = asyncrl.evaluate(run, episodes=30).mean
    print(f"{score:.1f} of 500")
    return score


if __name__ == "__main__":
    main()
